// Package release packs the program whatisup for a server: an archive with all that
// an installation needs, and a Debian package. It needs no tools of any system, and
// the same program gives the same bytes.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // the form of a Debian package asks for it
	"embed"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed files
var files embed.FS

// epoch is the time of every file.
var epoch = time.Unix(1_700_000_000, 0).UTC()

// Release is what is packed.
type Release struct {
	Version      string // like v1.2.3
	Architecture string // as Go calls it, which is as Debian does for amd64 and arm64
	Program      []byte
	Licence      []byte
}

// Name is that of the archive without its end.
func (r Release) Name() string {
	return fmt.Sprintf("whatisup_%s_linux_%s", r.Version, r.Architecture)
}

type file struct {
	name string
	mode int64
	body []byte
}

func embedded(name string) []byte {
	b, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// Archive writes the .tar.gz.
func (r Release) Archive(to io.Writer) error {
	all := []file{
		{"whatisup", 0o755, r.Program}, {"install.sh", 0o755, embedded("install.sh")}, {"LICENSE", 0o644, r.Licence},
		{"monitoring/alerts.yml", 0o644, embedded("alerts.yml")}, {"monitoring/dashboard.json", 0o644, embedded("dashboard.json")},
	}
	for _, name := range []string{"whatisup.service", "whatisup.env", "compose.yaml"} {
		all = append(all, file{name, 0o644, embedded(name)})
	}
	for i := range all {
		all[i].name = r.Name() + "/" + all[i].name
	}
	return pack(to, all)
}

// pack writes a gzipped tar, with the folders that the files are in.
func pack(to io.Writer, all []file) error {
	z, err := gzip.NewWriterLevel(to, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(z)
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.name, b.name) })
	made := map[string]bool{}
	for _, f := range all {
		var folders []string
		for d := path.Dir(f.name); d != "." && d != "/" && !made[d]; d = path.Dir(d) {
			made[d] = true
			folders = append(folders, d)
		}
		slices.Reverse(folders)
		for _, d := range folders {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755, ModTime: epoch, Uname: "root", Gname: "root"}); err != nil {
				return err
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.body)), ModTime: epoch, Uname: "root", Gname: "root"}); err != nil {
			return err
		}
		if _, err := w.Write(f.body); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return z.Close()
}

var debianVersion = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~-]*$`)

// Debian writes the .deb: an ar archive of the form's version, what the package
// manager reads, and the files.
func (r Release) Debian(to io.Writer) error {
	version := strings.TrimPrefix(r.Version, "v")
	if !debianVersion.MatchString(version) {
		version = "0~" + version // a commit's
	}
	installed := []file{
		{"./usr/bin/whatisup", 0o755, r.Program},
		{"./usr/lib/systemd/system/whatisup.service", 0o644, embedded("whatisup.service")},
		{"./etc/whatisup/whatisup.env", 0o640, embedded("whatisup.env")},
		{"./usr/share/doc/whatisup/copyright", 0o644, r.Licence},
		{"./usr/share/doc/whatisup/alerts.yml", 0o644, embedded("alerts.yml")},
		{"./usr/share/doc/whatisup/dashboard.json", 0o644, embedded("dashboard.json")},
	}
	size, sums := 0, ""
	for _, f := range installed {
		size += len(f.body)
		sums += fmt.Sprintf("%x  %s\n", md5.Sum(f.body), strings.TrimPrefix(f.name, "./")) //nolint:gosec
	}
	control := fmt.Sprintf(`Package: whatisup
Version: %s
Architecture: %s
Maintainer: WhatIsUp
Installed-Size: %d
Section: net
Priority: optional
Depends: passwd
Recommends: systemd
Description: WhatsApp HTTP API for one server or many
 Opens instances, shows their QR codes, keeps their connections up, sends and
 receives messages. Data are in /var/lib/whatisup, settings in /etc/whatisup.
`, version, r.Architecture, size/1024+1)
	var head, body bytes.Buffer
	if err := pack(&head, []file{
		{"./control", 0o644, []byte(control)}, {"./conffiles", 0o644, []byte("/etc/whatisup/whatisup.env\n")}, {"./md5sums", 0o644, []byte(sums)},
		{"./postinst", 0o755, embedded("postinst")}, {"./prerm", 0o755, embedded("prerm")},
	}); err != nil {
		return err
	}
	if err := pack(&body, installed); err != nil {
		return err
	}
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", head.Bytes()}, {"data.tar.gz", body.Bytes()}} {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.name, epoch.Unix(), 0, 0, 0o100644, len(m.body))
		out.Write(m.body)
		if len(m.body)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	_, err := out.WriteTo(to)
	return err
}
