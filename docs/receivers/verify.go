// Verifies webhooks of pg_webhook (Standard Webhooks v1 and v1a). Go 1.19 or newer, nothing but its library.
package main

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * time.Minute

var digits = regexp.MustCompile(`\A[0-9]{1,12}\z`)

// Verify takes the secret, whsec_…, or the public key, whpk_…; and the bytes of the body as they came.
func Verify(secret string, header http.Header, body []byte) bool {
	id, timestamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	if id == "" || !digits.MatchString(timestamp) {
		return false
	}
	seconds, _ := strconv.ParseInt(timestamp, 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return false
	}
	kind, text, _ := strings.Cut(secret, "_")
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return false
	}
	signed := append([]byte(id+"."+timestamp+"."), body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(signed)
	expected := mac.Sum(nil)
	// One for each secret in force while it is being replaced: one that fits is enough.
	for _, token := range strings.Split(header.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(token, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		if kind == "whsec" && version == "v1" && hmac.Equal(signature, expected) {
			return true
		}
		if kind == "whpk" && version == "v1a" && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signed, signature) {
			return true
		}
	}
	return false
}

func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil || !Verify(os.Getenv("WEBHOOK_SECRET"), r.Header, body) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	// Here: put the event aside under its webhook-id, unless it is there already. Work on it after the answer.
	w.WriteHeader(http.StatusNoContent)
}

// As a CGI program; as a server: http.ListenAndServe(":8080", http.HandlerFunc(receive)).
func main() {
	log.SetFlags(0)
	if err := cgi.Serve(http.HandlerFunc(receive)); err != nil {
		log.Fatal(err)
	}
}
