package whatsapp

import (
	"errors"
	"fmt"
)

// A frame is three bytes of length and that many bytes. Frames and WebSocket
// messages do not align: one message may hold several frames, and a frame may
// be spread over several messages.

const (
	frameHead         = 3
	maxHandshakeFrame = 64 << 10
	maxFrame          = 4 << 20

	headerMagic      = 6
	headerDictionary = 3
)

var (
	errFrameTooLarge = errors.New("frame too large")
	errHeader        = errors.New("not the header of a WhatsApp connection")
)

// frames cuts a stream of messages into frames.
type frames struct {
	buffer []byte
	limit  int
}

func (f *frames) add(message []byte) {
	if len(f.buffer) == 0 {
		f.buffer = message
		return
	}
	f.buffer = append(f.buffer, message...)
}

// next returns nil while the next frame is incomplete.
func (f *frames) next() ([]byte, error) {
	if len(f.buffer) < frameHead {
		return nil, nil
	}
	size := int(f.buffer[0])<<16 | int(f.buffer[1])<<8 | int(f.buffer[2])
	if size > f.limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errFrameTooLarge, size, f.limit)
	}
	if len(f.buffer) < frameHead+size {
		return nil, nil
	}
	frame := f.buffer[frameHead : frameHead+size : frameHead+size]
	if f.buffer = f.buffer[frameHead+size:]; len(f.buffer) == 0 {
		f.buffer = nil
	}
	return frame, nil
}

// header takes the opening bytes off the stream: optionally a routing hint that
// an earlier connection was given ("ED", two bytes, a frame), then "WA", the
// magic number and the version of the dictionary. Only the last four bytes are
// the prologue. It returns nil while they are incomplete.
func (f *frames) header() ([]byte, error) {
	if len(f.buffer) >= 2 && f.buffer[0] == 'E' && f.buffer[1] == 'D' {
		if len(f.buffer) < 7 {
			return nil, nil
		}
		size := int(f.buffer[4])<<16 | int(f.buffer[5])<<8 | int(f.buffer[6])
		if size > f.limit {
			return nil, errFrameTooLarge
		}
		if len(f.buffer) < 7+size {
			return nil, nil
		}
		f.buffer = f.buffer[7+size:]
	}
	if len(f.buffer) < 4 {
		return nil, nil
	}
	head := f.buffer[:4:4]
	if head[0] != 'W' || head[1] != 'A' || head[2] != headerMagic || head[3] != headerDictionary {
		return nil, errHeader
	}
	f.buffer = f.buffer[4:]
	return head, nil
}

func putFrame(payload []byte) []byte {
	n := len(payload)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
}
