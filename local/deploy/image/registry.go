package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Registry is where an image is sent: any that speaks the registry's HTTP API
// and takes a user and a password.
type Registry struct {
	Scheme   string // empty for https
	User     string
	Password string
	Client   *http.Client // nil for the default one
}

// Reference is an image's place: host, repository and tag.
type Reference struct {
	Host, Repository, Tag string
}

// ParseReference reads host/repository:tag.
func ParseReference(s string) (Reference, error) {
	host, rest, ok := strings.Cut(s, "/")
	i := strings.LastIndex(rest, ":")
	if !ok || host == "" || i < 1 || i == len(rest)-1 || strings.Contains(rest, "@") {
		return Reference{}, fmt.Errorf("image: %q is not host/repository:tag", s)
	}
	return Reference{Host: host, Repository: rest[:i], Tag: rest[i+1:]}, nil
}

// Digested is the image's place by digest, which never comes to mean another.
func (r Reference) Digested(digest string) string { return r.Host + "/" + r.Repository + "@" + digest }

// Push sends what the registry does not have yet, the manifest last, so that a
// tag never names an image that is not all there.
func (reg Registry) Push(ctx context.Context, to Reference, img *Image) error {
	for _, d := range slices.Sorted(maps.Keys(img.blobs)) {
		if d == img.Manifest {
			continue
		}
		if err := reg.pushBlob(ctx, to, d, img.blobs[d]); err != nil {
			return fmt.Errorf("image: send %s: %w", d, err)
		}
	}
	manifest := reg.url(to, "manifests/"+to.Tag)
	if _, err := reg.do(ctx, http.MethodPut, manifest, typeManifest, img.blobs[img.Manifest], http.StatusCreated); err != nil {
		return fmt.Errorf("image: send manifest: %w", err)
	}
	return nil
}

func (reg Registry) pushBlob(ctx context.Context, to Reference, digest string, blob []byte) error {
	have, err := reg.do(ctx, http.MethodHead, reg.url(to, "blobs/"+digest), "", nil, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return err
	}
	if have.StatusCode == http.StatusOK {
		return nil
	}
	begun, err := reg.do(ctx, http.MethodPost, reg.url(to, "blobs/uploads/"), "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	target, err := begun.Location()
	if err != nil {
		return err
	}
	query := target.Query()
	query.Set("digest", digest)
	target.RawQuery = query.Encode()
	_, err = reg.do(ctx, http.MethodPut, target, "application/octet-stream", blob, http.StatusCreated)
	return err
}

func (reg Registry) url(to Reference, path string) *url.URL {
	scheme := reg.Scheme
	if scheme == "" {
		scheme = "https"
	}
	return &url.URL{Scheme: scheme, Host: to.Host, Path: "/v2/" + to.Repository + "/" + path}
}

// do makes one call and returns its answer, whose body has been read.
func (reg Registry) do(ctx context.Context, method string, u *url.URL, contentType string, body []byte, want ...int) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if reg.Password != "" {
		r.SetBasicAuth(reg.User, reg.Password)
	}
	client := reg.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return nil, err
	}
	if !slices.Contains(want, response.StatusCode) {
		return nil, fmt.Errorf("%s %s: %s: %s", method, u.Path, response.Status, said)
	}
	return response, nil
}
