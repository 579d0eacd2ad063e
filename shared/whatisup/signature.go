package whatisup

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
)

const signingPrefix = "whsec_"

// NewSigningSecret makes the secret of a webhook endpoint: "whsec_" and the padded
// base64 of 32 random bytes.
func NewSigningSecret() Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return Secret(signingPrefix + base64.StdEncoding.EncodeToString(b))
}

// ValidSigningSecret says whether s is "whsec_" and the padded base64 of 24 to 64
// bytes.
func ValidSigningSecret(s string) bool {
	b, ok := signingKey(s)
	return ok && len(b) >= 24 && len(b) <= 64
}

func signingKey(s string) ([]byte, bool) {
	text, ok := strings.CutPrefix(s, signingPrefix)
	if !ok {
		return nil, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && base64.StdEncoding.EncodeToString(b) == text
}

// Sign makes the value of X-WhatIsUp-Signature: the time in unix seconds, and for
// each secret the HMAC of "<time>.<body>" under the secret's text.
func Sign(secrets []Secret, unix int64, body []byte) string {
	t := strconv.FormatInt(unix, 10)
	var out strings.Builder
	out.WriteString("t=" + t)
	for _, s := range secrets {
		out.WriteString(",v1=" + hex.EncodeToString(hmacOf([]byte(s), t, ".", string(body))))
	}
	return out.String()
}

// SignStandard makes the value of webhook-signature, as Standard Webhooks has it: for
// each secret the HMAC of "<id>.<time>.<body>" under the secret's decoded bytes.
func SignStandard(secrets []Secret, id string, unix int64, body []byte) string {
	var all []string
	for _, s := range secrets {
		if key, ok := signingKey(string(s)); ok {
			all = append(all, "v1,"+base64.StdEncoding.EncodeToString(hmacOf(key, id, ".", strconv.FormatInt(unix, 10), ".", string(body))))
		}
	}
	return strings.Join(all, " ")
}

func hmacOf(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
