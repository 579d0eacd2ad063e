package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// nobody is the user that the programs run as. There is no user database in the
// image, so it is a number.
const (
	nobody   = "65532:65532"
	nobodyID = 65532
)

// data is the one folder that the programs may write to, for those that keep
// something. It is declared a volume, which then belongs to nobody too.
const data = "data"

// Config says what an image is made of.
type Config struct {
	Architecture string   // as Go calls it
	Programs     []string // files; the first is the entry point
}

// Image is a finished image: its blobs by digest.
type Image struct {
	Manifest string // its digest
	config   string
	layers   []string
	blobs    map[string][]byte
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Build makes an image of the programs.
func Build(c Config) (*Image, error) {
	if c.Architecture == "" || len(c.Programs) == 0 {
		return nil, fmt.Errorf("image: needs an architecture and a program")
	}
	img := &Image{blobs: make(map[string][]byte)}
	archive, err := root(c.Programs)
	if err != nil {
		return nil, err
	}
	packed, err := compress(archive)
	if err != nil {
		return nil, err
	}
	layer := img.add(typeLayer, packed)
	img.layers = []string{layer.Digest}
	config, err := img.addJSON(typeConfig, map[string]any{
		"architecture": c.Architecture,
		"os":           "linux",
		"config": map[string]any{
			"User":       nobody,
			"Entrypoint": []string{"/" + filepath.Base(c.Programs[0])},
			"WorkingDir": "/",
			"Volumes":    map[string]any{"/" + data: map[string]any{}},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(archive)}},
	})
	if err != nil {
		return nil, err
	}
	img.config = config.Digest
	manifest, err := img.addJSON(typeManifest, map[string]any{
		"schemaVersion": 2,
		"mediaType":     typeManifest,
		"config":        config,
		"layers":        []descriptor{layer},
	})
	img.Manifest = manifest.Digest
	return img, err
}

// WriteTo writes the image as an archive that skopeo, crane, podman and Docker
// (25 and later as an OCI layout, earlier ones by manifest.json) can load.
func (img *Image) WriteTo(w io.Writer) (int64, error) {
	index, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     typeIndex,
		"manifests":     []descriptor{{MediaType: typeManifest, Digest: img.Manifest, Size: len(img.blobs[img.Manifest])}},
	})
	if err != nil {
		return 0, err
	}
	names := make([]string, 0, len(img.layers))
	for _, l := range img.layers {
		names = append(names, blobPath(l))
	}
	older, err := json.Marshal([]map[string]any{{"Config": blobPath(img.config), "RepoTags": []string{}, "Layers": names}})
	if err != nil {
		return 0, err
	}
	files := map[string][]byte{
		"oci-layout":    []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json":    index,
		"manifest.json": older,
	}
	for d, blob := range img.blobs {
		files[blobPath(d)] = blob
	}
	counted := &counter{to: w}
	archive := tar.NewWriter(counted)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := file(archive, name, 0o644, files[name]); err != nil {
			return counted.n, err
		}
	}
	return counted.n, archive.Close()
}

func (img *Image) add(mediaType string, blob []byte) descriptor {
	d := digest(blob)
	img.blobs[d] = blob
	return descriptor{MediaType: mediaType, Digest: d, Size: len(blob)}
}

func (img *Image) addJSON(mediaType string, v any) (descriptor, error) {
	b, err := json.Marshal(v)
	return img.add(mediaType, b), err
}

// root is the file system of the image.
func root(programs []string) ([]byte, error) {
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	for _, p := range programs {
		program, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
		if err := file(archive, filepath.Base(p), 0o555, program); err != nil {
			return nil, err
		}
	}
	err := archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: data + "/", Mode: 0o700, Uid: nobodyID, Gid: nobodyID, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	})
	if err != nil {
		return nil, err
	}
	err = archive.Close()
	return b.Bytes(), err
}

func file(archive *tar.Writer, name string, mode int64, content []byte) error {
	err := archive.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	})
	if err != nil {
		return err
	}
	_, err = archive.Write(content)
	return err
}

func compress(b []byte) ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	err := z.Close()
	return packed.Bytes(), err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func blobPath(digest string) string { return "blobs/sha256/" + digest[len("sha256:"):] }

type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}
