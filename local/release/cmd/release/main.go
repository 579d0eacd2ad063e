// Command release writes the archive and the Debian package of a built whatisup.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"whatisup/local/release"
)

func main() {
	version := flag.String("version", "", "the release's, like v1.2.3")
	arch := flag.String("arch", "", "amd64 or arm64")
	to := flag.String("o", "dist", "folder to write to")
	flag.Parse()
	if err := run(*version, *arch, *to, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(version, arch, to string, args []string) error {
	if version == "" || arch == "" || len(args) != 2 {
		return errors.New("say -version, -arch, the program and the licence")
	}
	r := release.Release{Version: version, Architecture: arch}
	var err error
	if r.Program, err = os.ReadFile(args[0]); err != nil {
		return err
	}
	if r.Licence, err = os.ReadFile(args[1]); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for end, write := range map[string]func(io.Writer) error{".tar.gz": r.Archive, ".deb": r.Debian} {
		path := filepath.Join(to, r.Name()+end)
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := errors.Join(write(f), f.Close()); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
