package store

import "os"

// ahead keeps the file's end written before it is needed. To sync a page that
// overwrites a written block costs the disk one write; to sync one that fills a
// hole costs the file system a journal commit as well, several times as much.
type ahead struct {
	file *os.File
	size int64 // of the file
	used int64 // by bbolt, at the last commit
}

func newAhead(path string) (*ahead, error) {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &ahead{file: file, size: info.Size(), used: info.Size()}, nil
}

// Bounds of what is written ahead: a quarter of what is there, within reason.
const (
	minAhead = 512 << 10
	maxAhead = 8 << 20
)

// keep writes zeros at the end if little is left there.
func (a *ahead) keep() error {
	if a.size-a.used > minAhead {
		return nil
	}
	if info, err := a.file.Stat(); err != nil {
		return err
	} else if a.size = info.Size(); a.size-a.used > minAhead {
		return nil
	}
	step := min(max(a.size/4, 2*minAhead), maxAhead)
	if _, err := a.file.WriteAt(make([]byte, step), a.size); err != nil {
		return err
	}
	a.size += step
	return a.file.Sync()
}
