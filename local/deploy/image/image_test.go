package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

func programs(t *testing.T) []string {
	t.Helper()
	var paths []string
	for name, content := range map[string]string{"host": "first program", "other": "second"} {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	if filepath.Base(paths[0]) != "host" {
		paths[0], paths[1] = paths[1], paths[0]
	}
	return paths
}

func build(t *testing.T) (*Image, []byte) {
	t.Helper()
	img, err := Build(Config{Architecture: "arm64", Programs: programs(t)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := img.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return img, b.Bytes()
}

func TestArchive(t *testing.T) {
	t.Parallel()
	img, archive := build(t)
	_, again := build(t)
	if !bytes.Equal(archive, again) {
		t.Error("the same programs gave another image")
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	// Walk it as a registry client would: every blob is what its digest says.
	blob := func(d string) []byte {
		b, ok := files[blobPath(d)]
		if !ok || digest(b) != d {
			t.Fatalf("blob %s is missing or wrong", d)
		}
		return b
	}
	var index, manifest struct {
		Manifests []descriptor
		Config    descriptor
		Layers    []descriptor
	}
	var config struct {
		Architecture string
		Config       struct {
			User       string
			Entrypoint []string
		}
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, files["index.json"], &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Digest != img.Manifest {
		t.Fatalf("index names %+v, want %s", index.Manifests, img.Manifest)
	}
	decode(t, blob(img.Manifest), &manifest)
	decode(t, blob(manifest.Config.Digest), &config)
	if config.Architecture != "arm64" || config.Config.User != "65532:65532" || fmt.Sprint(config.Config.Entrypoint) != "[/host]" {
		t.Errorf("config is %+v", config)
	}
	z, err := gzip.NewReader(bytes.NewReader(blob(manifest.Layers[0].Digest)))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if digest(layer) != config.Rootfs.DiffIDs[0] {
		t.Error("the layer is not the one that the config names")
	}
	var inside []string
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		inside = append(inside, fmt.Sprintf("%s %o %q", h.Name, h.Mode, b))
	}
	if want := `host 555 "first program", other 555 "second", data/ 700 ""`; strings.Join(inside, ", ") != want {
		t.Errorf("in the image: %v, want %s", inside, want)
	}
}

func decode(t *testing.T, b []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

// registry is as much of a registry as a push sees. It checks digests, and
// refuses a manifest whose blobs it lacks.
type registry struct {
	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string][]byte
	uploads   int
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if user, password, _ := q.BasicAuth(); user != "AWS" || password != "token" {
		http.Error(w, "who are you", http.StatusUnauthorized)
		return
	}
	body, _ := io.ReadAll(q.Body)
	const at = "/v2/team/host/"
	path, ok := strings.CutPrefix(q.URL.Path, at)
	switch {
	case !ok:
		http.NotFound(w, q)
	case q.Method == "HEAD" && strings.HasPrefix(path, "blobs/"):
		if r.blobs[strings.TrimPrefix(path, "blobs/")] == nil {
			w.WriteHeader(http.StatusNotFound)
		}
	case q.Method == "POST" && path == "blobs/uploads/":
		r.uploads++
		w.Header().Set("Location", fmt.Sprintf("%sblobs/uploads/%d?state=x", at, r.uploads))
		w.WriteHeader(http.StatusAccepted)
	case q.Method == "PUT" && strings.HasPrefix(path, "blobs/uploads/") && q.URL.Query().Get("state") == "x":
		if digest(body) != q.URL.Query().Get("digest") {
			http.Error(w, "digest", http.StatusBadRequest)
			return
		}
		r.blobs[digest(body)] = body
		w.WriteHeader(http.StatusCreated)
	case q.Method == "PUT" && strings.HasPrefix(path, "manifests/") && q.Header.Get("Content-Type") == typeManifest:
		var m struct {
			Config descriptor
			Layers []descriptor
		}
		json.Unmarshal(body, &m)
		for _, d := range append(m.Layers, m.Config) {
			if r.blobs[d.Digest] == nil {
				http.Error(w, "blob unknown", http.StatusBadRequest)
				return
			}
		}
		r.manifests[strings.TrimPrefix(path, "manifests/")] = body
		w.WriteHeader(http.StatusCreated)
	default:
		http.Error(w, "unexpected "+q.Method+" "+path, http.StatusBadRequest)
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	store := &registry{blobs: make(map[string][]byte), manifests: make(map[string][]byte)}
	server := httptest.NewServer(store)
	defer server.Close()
	token := base64.StdEncoding.EncodeToString([]byte("AWS:token"))
	ecr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetAuthorizationToken") || !strings.Contains(r.Header.Get("Authorization"), "/eu-central-1/ecr/") {
			http.Error(w, "unsigned", http.StatusForbidden)
			return
		}
		fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q}]}`, token)
	}))
	defer ecr.Close()
	reg, err := ECR(t.Context(), aws.Config{
		Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	}, ecr.URL)
	if err != nil {
		t.Fatal(err)
	}
	reg.Scheme = "http"
	to, err := ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/host:v1")
	if err != nil {
		t.Fatal(err)
	}
	img, _ := build(t)
	for range 2 {
		if err := reg.Push(t.Context(), to, img); err != nil {
			t.Fatal(err)
		}
	}
	if digest(store.manifests["v1"]) != img.Manifest {
		t.Error("the tag does not name the image")
	}
	if store.uploads != 2 {
		t.Errorf("%d uploads, want 2: the second push had nothing to send", store.uploads)
	}
	reg.Password = "wrong"
	if err := reg.Push(t.Context(), to, img); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a wrong password: %v", err)
	}
}

func TestECREndpoint(t *testing.T) {
	t.Parallel()
	if got := ECREndpoint("123456789012.dkr.ecr.eu-central-1.amazonaws.com"); got != "https://api.ecr.eu-central-1.amazonaws.com/" {
		t.Error(got)
	}
	if got := ECREndpoint("registry.example.com"); got != "" {
		t.Error(got)
	}
}

func TestParseReference(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "host", "host/repo", "host/repo:", "/repo:tag", "host/repo@sha256:ab"} {
		if r, err := ParseReference(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, r)
		}
	}
	r, err := ParseReference("host:5000/a/b:v1")
	if err != nil || r != (Reference{"host:5000", "a/b", "v1"}) {
		t.Errorf("got %+v, %v", r, err)
	}
	if d := r.Digested("sha256:ab"); d != "host:5000/a/b@sha256:ab" {
		t.Error(d)
	}
}
