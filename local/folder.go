package local

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// folderFormat is the format of DATA_DIR as a whole: 1 had neither this number
// nor a root key for the embedded KMS.
const folderFormat = 2

// The files of DATA_DIR beside the keys of the first customer.
const (
	formatFile = "format"
	firstFile  = "first-start" // there until the first start is done
	databases  = "aws.db"
	pepperFile = "pepper"
	rootFile   = "kms.root"
	secretFile = "aws.secret"
	envFile    = "env.json"
)

// written is what the file format says.
type written struct {
	Format int    `json:"format"`
	By     string `json:"written_by"`
}

// secrets are what a stack must have from its start, wherever each comes from.
type secrets struct {
	pepper string
	root   string // of the embedded KMS
	aws    string // what requests to the embedded AWS are signed with
}

// openFolder makes DATA_DIR at the first start, and otherwise refuses one that
// lacks something: to make a new pepper or key in the place of a lost one would
// lock every customer out, or lose every link.
func (c Config) openFolder() (s secrets, err error) {
	first, err := c.isFirst()
	if err != nil {
		return s, fmt.Errorf("DATA_DIR: %w", err)
	}
	found, err := c.format()
	if err != nil {
		return s, err
	}
	if first {
		if err := writeSecret(c.path(firstFile), "the first start is under way"); err != nil {
			return s, fmt.Errorf("DATA_DIR: %w", err)
		}
	} else if err := c.nothingMissing(found); err != nil {
		return s, err
	}
	made := func(bytes int, prefix string) func() string {
		return func() string {
			b := make([]byte, bytes)
			rand.Read(b)
			return prefix + base64.StdEncoding.EncodeToString(b)
		}
	}
	for _, one := range []struct {
		into *string
		name string
		file string
		make func() string
	}{
		{&s.pepper, "PEPPER", pepperFile, made(32, "1:")},
		{&s.root, "KMS_ROOT", rootFile, made(32, "1:")},
		{&s.aws, "AWS_SECRET", secretFile, made(30, "")},
	} {
		text, _, err := c.secret(one.name, one.file)
		if err != nil {
			return s, err
		}
		if text == "" { // allowed by what was looked at above
			text = one.make()
			if err := writeSecret(c.path(one.file), text); err != nil {
				return s, err
			}
		}
		*one.into = text
	}
	return s, nil
}

// lockWithin bounds the wait for a process that was killed a moment ago.
const lockWithin = 2 * time.Second

// lockFolder makes DATA_DIR and holds it for this process alone, until unlock is
// called or the process ends, however it ends.
func (c Config) lockFolder(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	folder, err := os.Open(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("DATA_DIR: %w", err)
	}
	for until := time.Now().Add(lockWithin); ; {
		err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { folder.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(until) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("DATA_DIR: %s is in use by another process: stop that one, or choose another DATA_DIR (%w)", c.DataDir, err), folder.Close())
		}
		time.Sleep(20 * time.Millisecond) // nothing tells that a lock is free
	}
}

// folderDone notes that DATA_DIR is whole and in this version's format.
func (c Config) folderDone() error {
	if found, err := c.format(); err != nil || found.Format != folderFormat || found.By != c.Version {
		text, err := json.Marshal(written{folderFormat, c.Version})
		if err != nil {
			return err
		}
		if err := writeSecret(c.path(formatFile), string(text)); err != nil {
			return err
		}
	}
	err := os.Remove(c.path(firstFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// isFirst says whether DATA_DIR is empty, or a first start in it was cut short.
func (c Config) isFirst() (bool, error) {
	if _, err := os.Stat(c.path(firstFile)); err == nil {
		return true, nil
	}
	entries, err := os.ReadDir(c.DataDir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() != "lost+found" && !strings.HasPrefix(e.Name(), ".new-") {
			return false, nil
		}
	}
	return true, nil
}

func (c Config) format() (w written, err error) {
	b, err := os.ReadFile(c.path(formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return written{Format: 1, By: "a version before formats were numbered"}, nil
	} else if err != nil {
		return w, err
	}
	if err := json.Unmarshal(b, &w); err != nil || w.Format < 1 {
		return w, fmt.Errorf("%s is damaged: it must be like {\"format\":%d,\"written_by\":\"v1.0.0\"}; restore a backup, or write what `whatisup version` says", c.path(formatFile), folderFormat)
	}
	if w.Format > folderFormat {
		return w, fmt.Errorf("%s has format %d, written by whatisup %s; this is whatisup %s and knows formats up to %d: run that version or a newer one", c.DataDir, w.Format, w.By, c.Version, folderFormat)
	}
	return w, nil
}

// nothingMissing names the file that DATA_DIR should have and has not.
func (c Config) nothingMissing(found written) error {
	missing := func(file, what string) error {
		return fmt.Errorf("%s is missing or empty: it holds %s. %s is not empty, so this is no first start and no new one is made. Put the file back from a backup (`whatisup restore`), or choose another DATA_DIR", c.path(file), what, c.DataDir)
	}
	if !hasBytes(c.path(databases)) {
		return missing(databases, "every table, queue and sealed key")
	}
	if _, err := os.Stat(c.path("whatsapp")); err == nil && !hasBytes(filepath.Join(c.DataDir, "whatsapp", "whatsapp.db")) {
		return missing(filepath.Join("whatsapp", "whatsapp.db"), "the simulated WhatsApp")
	}
	need := []struct{ name, file, what string }{
		{"PEPPER", pepperFile, "the secret under which every API key is hashed"},
		{"KMS_ROOT", rootFile, "the key that opens every link"},
	}
	if found.Format == 1 {
		need = need[:1] // the root key is made now
	}
	for _, n := range need {
		if text, _, err := c.secret(n.name, n.file); err != nil {
			return err
		} else if text == "" {
			return missing(n.file, n.what)
		}
	}
	return nil
}

func hasBytes(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 0
}

// secret finds a secret: the variable NAME, the file that NAME_FILE names, the
// systemd credential of the file's name, or the file in DATA_DIR. It says from
// where, and is empty if there is none.
func (c Config) secret(name, file string) (text, from string, err error) {
	if v := c.getenv(name); v != "" {
		return strings.TrimSpace(v), name, nil
	}
	read := func(path string) (string, error) {
		b, err := os.ReadFile(path)
		return strings.TrimSpace(string(b)), err
	}
	if path := c.getenv(name + "_FILE"); path != "" {
		text, err := read(path)
		if err == nil && text == "" {
			err = fmt.Errorf("%s is empty", path)
		}
		if err != nil {
			return "", "", fmt.Errorf("%s_FILE: %w", name, err)
		}
		return text, path, nil
	}
	places := []string{c.path(file)}
	if dir := c.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		places = []string{filepath.Join(dir, file), c.path(file)}
	}
	for _, path := range places {
		text, err := read(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && text == "" {
			continue
		}
		return text, path, err
	}
	return "", "", nil
}

func (c Config) getenv(name string) string {
	if c.Env == nil {
		return ""
	}
	return c.Env(name)
}
