package httpapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"whatisup/shared/qr"
	"whatisup/shared/whatisup"
)

type qrCode struct {
	QR        string        `json:"qr"`
	Raw       string        `json:"raw"`
	ExpiresAt whatisup.Time `json:"expires_at"`
}

func getQR(c *call) (*answer, error) {
	if prefersPNG(c.r.Header.Values("Accept")) {
		return getQRPicture(c)
	}
	p, png, err := c.code()
	if err != nil {
		return nil, err
	}
	return reply(http.StatusOK, qrCode{
		QR: qr.DataURL(png), Raw: p.Raw, ExpiresAt: whatisup.At(p.ExpiresAt),
	}), nil
}

func getQRPicture(c *call) (*answer, error) {
	_, png, err := c.code()
	if err != nil {
		return nil, err
	}
	return &answer{status: http.StatusOK, raw: png, kind: "image/png"}, nil
}

// code waits for a code that can be scanned, and for its picture.
func (c *call) code() (*whatisup.Pairing, []byte, error) {
	p, err := c.control.QR(c.ctx, c.who(), c.instance)
	if err != nil {
		return nil, nil, err
	}
	png, err := picture(p)
	return p, png, err
}

// picture is the code of a row. Its host has drawn it, unless that host is of
// another version.
func picture(p *whatisup.Pairing) ([]byte, error) {
	if code := qr.Code(p.Modules); code.Valid() {
		return code.PNG(), nil
	}
	code, err := qr.Draw(p.Raw)
	if err != nil {
		return nil, err
	}
	return code.PNG(), nil
}

// prefersPNG says whether a client would rather have the picture than JSON. A
// client that says nothing, or that takes anything, gets JSON.
func prefersPNG(accept []string) bool {
	var png, json float64
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil {
				q = 0
			}
		}
		switch kind {
		case "image/png", "image/*":
			png = max(png, q)
		case "application/json", "application/*":
			json = max(json, q)
		}
	}
	return png > json
}

type pairCode struct {
	Code      string        `json:"code"`
	ExpiresAt whatisup.Time `json:"expires_at"`
}

func createPairCode(c *call) (*answer, error) {
	b, err := c.readBody()
	if err != nil {
		return nil, err
	}
	number, _ := b.Phone("phone_number", true)
	if err := b.Done(); err != nil {
		return nil, err
	}
	return c.idempotent(b, func(*claim) (*answer, error) {
		code, err := c.control.PairCode(c.ctx, c.who(), c.instance, number)
		if err != nil {
			return nil, err
		}
		return reply(http.StatusOK, pairCode{code.Code, whatisup.At(code.ExpiresAt)}), nil
	})
}
