package whatsapp

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// What outlives the process is kept in one bbolt file: the seed, the linked
// devices with their one-time keys, the phones' Signal sessions, what phones show
// and how they behave, groups, and what waits for a device or a phone. Changes are
// atomic and reach the log beside it before their effect is visible to a client, which
// is what a killed process needs (see update and tx); the file is synced to the disk
// once a second only (see Run), so that a power cut may cost it.
type database struct {
	bolt      *bbolt.DB
	dir       string
	temporary string
	synced    int64 // bbolt's writes that were on the disk at the last sync
	commits   commits

	mu     sync.Mutex // over what follows
	open   *tx        // holds what is in the log; nil: nothing is
	ahead  ahead
	broken error
	writes int // to the log
}

var (
	bucketMeta     = []byte("meta")
	bucketNumbers  = []byte("numbers")  // world, number -> numberRecord
	bucketDevices  = []byte("devices")  // world, device -> deviceRecord
	bucketPreKeys  = []byte("prekeys")  // world, device, row -> one-time keys
	bucketSessions = []byte("sessions") // world, device, number of the phone -> Signal session
	bucketQueue    = []byte("queue")    // world, device, position -> queued

	bucketPhones     = []byte("phones")      // world, number -> behaviour
	bucketShown      = []byte("shown")       // world, number, position -> shownRecord
	bucketShownIDs   = []byte("shown ids")   // world, number, chat, from, id -> position
	bucketWaiting    = []byte("waiting")     // world, number, position -> waiting
	bucketMedia      = []byte("media")       // world, name -> mediaRecord
	bucketGroups     = []byte("groups")      // world, id -> groupRecord
	bucketSenderKeys = []byte("sender keys") // world, number, group, sender -> a group's key
	bucketProfiles   = []byte("profiles")    // world, number -> profile
	bucketAppState   = []byte("app state")   // world, number, collection, what -> collection, patch, code of an entry
)

var buckets = [][]byte{
	bucketMeta, bucketNumbers, bucketDevices, bucketPreKeys, bucketSessions, bucketQueue,
	bucketPhones, bucketShown, bucketShownIDs, bucketWaiting, bucketMedia, bucketGroups, bucketSenderKeys, bucketProfiles,
	bucketAppState,
}

func openDatabase(dir string) (*database, error) {
	d := &database{commits: newCommits()}
	if dir == "" {
		temporary, err := os.MkdirTemp("", "whatsapp-simulator-")
		if err != nil {
			return nil, fmt.Errorf("make a temporary data directory: %w", err)
		}
		d.temporary, dir = temporary, temporary
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	d.dir = dir
	path := filepath.Join(dir, "whatsapp.db")
	if err := sound(path); err != nil {
		d.removeTemporary()
		return nil, fmt.Errorf("open the simulator's database %s: %w", path, err)
	}
	bolt, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:        2 * time.Second,
		NoSync:         true,
		NoGrowSync:     true,
		NoFreelistSync: true,
		FreelistType:   bbolt.FreelistMapType,
	})
	if err != nil {
		d.removeTemporary()
		return nil, fmt.Errorf("open the simulator's database (is another simulator using it?): %w", err)
	}
	d.bolt = bolt
	err = bolt.Update(func(tx *bbolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return checkFormat(tx.Bucket(bucketMeta))
	})
	if err != nil {
		d.close()
		return nil, fmt.Errorf("prepare the simulator's database: %w", err)
	}
	if err = d.openLog(filepath.Join(dir, logName)); err != nil {
		d.close()
		return nil, fmt.Errorf("prepare the simulator's database: %w", err)
	}
	return d, nil
}

// logName is the log's, in the data directory.
const logName = "whatsapp.ahead"

// fileFormat is that of the file; one without a number has the first. Beside one of
// the second there may be a log.
const fileFormat = 2

// checkFormat refuses a file that a newer version has written, and gives its number to
// one that has none.
func checkFormat(meta *bbolt.Bucket) error {
	key := []byte("format")
	if v := meta.Get(key); v != nil {
		found, err := strconv.Atoi(string(v))
		if err != nil {
			return fmt.Errorf("it is damaged: its format is %q; put back a backup, or remove it and scan again", v)
		}
		if found > fileFormat {
			return fmt.Errorf("it has format %d, and this version knows formats up to %d: run the version that wrote it, or a newer one", found, fileFormat)
		}
	}
	return meta.Put(key, []byte(strconv.Itoa(fileFormat)))
}

// sound reads every key of the file, if there is one. To open it for writing, bbolt
// reads all pages in a goroutine of its own, where a page that is none ends the whole
// process.
func sound(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	} else if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it is damaged; put back a backup, or remove it and scan again (%v)", p)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a page behind the file's end
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 2 * time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return errors.New("another simulator uses it")
	} else if err != nil {
		panic(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			panic("its end is missing")
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return soundBucket(b) })
	})
}

func soundBucket(b *bbolt.Bucket) error {
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return soundBucket(b.Bucket(k))
		}
		return nil
	})
}

// Snapshot writes the file of what is kept as it is at one moment, while the
// server goes on; size is told before how much that is.
func (s *Server) Snapshot(size func(int64) error, to io.Writer) error {
	tx, err := s.db.begun()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := size(tx.Size()); err != nil {
		return err
	}
	_, err = tx.WriteTo(to)
	return err
}

// begun is a transaction that reads the file as it is, with nothing left in the log.
func (d *database) begun() (*bbolt.Tx, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.checkpoint(); err != nil {
		return nil, err
	}
	return d.bolt.Begin(false)
}

func (d *database) removeTemporary() {
	if d.temporary != "" {
		_ = os.RemoveAll(d.temporary)
	}
}

func (d *database) close() error {
	err := d.flush()
	if d.ahead.file != nil {
		err = errors.Join(err, d.closeLog())
	}
	err = errors.Join(err, d.bolt.Sync())
	if closeErr := d.bolt.Close(); err == nil {
		err = closeErr
	}
	d.removeTemporary()
	return err
}

// sync brings what was written since the last time to the disk.
func (d *database) sync() error {
	d.mu.Lock()
	err := d.checkpoint()
	d.mu.Unlock()
	if err != nil {
		return err
	}
	stats := d.bolt.Stats()
	written := stats.TxStats.GetWrite()
	if written == d.synced {
		return nil
	}
	if err := d.bolt.Sync(); err != nil {
		return err
	}
	d.synced = written
	return nil
}

// loadSeed returns the seed of the data directory and makes it at first.
func (d *database) loadSeed(fill func([]byte)) (out seed, err error) {
	err = d.update(func(tx *tx) error {
		meta := tx.Bucket(bucketMeta)
		if stored := meta.Get([]byte("seed")); len(stored) == len(out) {
			copy(out[:], stored)
			return nil
		}
		fill(out[:])
		return meta.Put([]byte("seed"), out[:])
	})
	return out, err
}

// A key of a bucket is its parts with a zero byte after each; no part holds one.
func keyOf(parts ...string) []byte {
	var key []byte
	for _, part := range parts {
		key = append(append(key, part...), 0)
	}
	return key
}

func putJSON(bucket *bucket, key []byte, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return bucket.Put(key, data)
}

func getJSON(bucket *bucket, key []byte, into any) (bool, error) {
	data := bucket.Get(key)
	if data == nil {
		return false, nil
	}
	return true, json.Unmarshal(data, into)
}

// under calls fn for every pair whose key begins with prefix, in order.
func under(bucket *bucket, prefix []byte, fn func(key, value []byte) error) error {
	cursor := bucket.Cursor()
	for key, value := cursor.Seek(prefix); key != nil && len(key) >= len(prefix) && string(key[:len(prefix)]) == string(prefix); key, value = cursor.Next() {
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

func deleteUnder(bucket *bucket, prefix []byte) error {
	var keys [][]byte
	if err := under(bucket, prefix, func(key, _ []byte) error {
		keys = append(keys, append([]byte(nil), key...))
		return nil
	}); err != nil {
		return err
	}
	for _, key := range keys {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func order64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
