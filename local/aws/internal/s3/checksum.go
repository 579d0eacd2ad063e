package s3

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// checksum is what S3 keeps of an object beside its ETag. A composite one is
// over the checksums of the parts.
type checksum struct {
	Algorithm string `json:",omitempty"` // crc32, crc32c, crc64nvme, sha1 or sha256
	Value     string `json:",omitempty"`
	Composite bool   `json:",omitempty"`
}

const checksumPrefix = "X-Amz-Checksum-"

var algorithms = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"crc64nvme": func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

// checksumIn finds the checksum that headers give; its value is empty where only
// the algorithm is named, and the value follows the body.
func checksumIn(h http.Header) (checksum, error) {
	var found checksum
	for name := range algorithms {
		if v := h.Get(checksumPrefix + name); v != "" {
			if found.Algorithm != "" {
				return found, failure(400, "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
			}
			found = checksum{Algorithm: name, Value: v}
		}
	}
	if found.Algorithm != "" {
		return found, nil
	}
	name := strings.ToLower(h.Get("X-Amz-Sdk-Checksum-Algorithm"))
	if trailer, ok := strings.CutPrefix(strings.ToLower(h.Get("X-Amz-Trailer")), strings.ToLower(checksumPrefix)); ok {
		name = trailer
	}
	if name == "" {
		return found, nil
	}
	if algorithms[name] == nil {
		return found, failure(400, "InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	return checksum{Algorithm: name}, nil
}

func sumText(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// composite is the checksum of the checksums of parts.
func composite(algorithm string, parts []checksum) checksum {
	if algorithm == "" || algorithms[algorithm] == nil {
		return checksum{}
	}
	h := algorithms[algorithm]()
	for _, p := range parts {
		b, err := base64.StdEncoding.DecodeString(p.Value)
		if err != nil || p.Algorithm != algorithm {
			return checksum{}
		}
		h.Write(b)
	}
	return checksum{Algorithm: algorithm, Value: sumText(h) + "-" + itoa(len(parts)), Composite: true}
}

// show sets the headers that tell of a checksum.
func (c checksum) show(h http.Header) {
	if c.Value == "" {
		return
	}
	h.Set(checksumPrefix+c.Algorithm, c.Value)
	h.Set("X-Amz-Checksum-Type", c.kind())
}

func (c checksum) kind() string {
	if c.Composite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// fields are the elements of an XML answer that tell of a checksum.
type checksumFields struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

func (c checksum) fields() checksumFields {
	var f checksumFields
	if c.Value == "" {
		return f
	}
	*f.of(c.Algorithm) = c.Value
	f.ChecksumType = c.kind()
	return f
}

func (f *checksumFields) of(algorithm string) *string {
	switch algorithm {
	case "crc32":
		return &f.ChecksumCRC32
	case "crc32c":
		return &f.ChecksumCRC32C
	case "crc64nvme":
		return &f.ChecksumCRC64NVME
	case "sha1":
		return &f.ChecksumSHA1
	}
	return &f.ChecksumSHA256
}

func partKey(upload string, number int) []byte {
	return binary.BigEndian.AppendUint16(append([]byte(upload), 0), uint16(number))
}
