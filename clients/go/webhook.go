package whatisup

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrSignature is returned for a request that our API has not signed, or not now.
var ErrSignature = errors.New("the signature of the webhook does not fit")

const tolerance = 5 * time.Minute

// Webhook checks the signature of a request to your endpoint and returns its event.
// header and body are the request's, the body unchanged; secret is the endpoint's
// signing_secret. Drop an event whose ID you have seen.
func Webhook(secret string, header http.Header, body []byte) (Event, error) {
	return webhookAt(time.Now(), secret, header, body)
}

func webhookAt(now time.Time, secret string, header http.Header, body []byte) (Event, error) {
	stamp, signatures, _ := strings.Cut(header.Get("X-WhatIsUp-Signature"), ",")
	stamp, ok := strings.CutPrefix(stamp, "t=")
	unix, err := strconv.ParseInt(stamp, 10, 64)
	if !ok || err != nil || now.Sub(time.Unix(unix, 0)).Abs() > tolerance {
		return Event{}, ErrSignature
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	want := []byte("v1=" + hex.EncodeToString(mac.Sum(nil)))
	for signature := range strings.SplitSeq(signatures, ",") {
		if hmac.Equal([]byte(signature), want) {
			var e Event
			return e, json.Unmarshal(body, &e)
		}
	}
	return Event{}, ErrSignature
}
