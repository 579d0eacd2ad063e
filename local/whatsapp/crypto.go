package whatsapp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

func hmacSHA256(key, data []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(data)
	return mac.Sum(nil)
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

func base64URL(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func sha256Of(data []byte) []byte {
	sum := sha256.Sum256(data)
	return sum[:]
}
