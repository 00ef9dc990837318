// Package tokenformat writes tokens for those that read them.
package tokenformat

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
)

// Text is a token in the format of that name; ok reports whether there is one.
func Text(format, token string, expires time.Time) (text string, ok bool, err error) {
	write, ok := formats[format]
	if !ok {
		return "", false, nil
	}
	text, err = write(token, expires.UTC().Truncate(time.Second))
	return text, true, err
}

// formats are what consumers of tokens read.
var formats = map[string]func(token string, expires time.Time) (string, error){
	"bare": bareToken, "": bareToken,
	"json": func(token string, expires time.Time) (string, error) {
		return asJSON(struct {
			Token     string    `json:"token"`
			ExpiresOn time.Time `json:"expires_on"`
			ExpiresIn int64     `json:"expires_in"` // in seconds, for those who would rather not parse a time
		}{token, expires, int64(time.Until(expires).Seconds())})
	},
	// https://www.postgresql.org/docs/current/libpq-pgpass.html
	"pgpass": func(token string, _ time.Time) (string, error) {
		return "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(token), nil
	},
	"env": func(token string, _ time.Time) (string, error) {
		return "export PGPASSWORD=" + shell.Quote(token), nil
	},
	// https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
	"exec-credential": func(token string, expires time.Time) (string, error) {
		return asJSON(map[string]any{
			"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
			"status": map[string]any{"token": token, "expirationTimestamp": expires},
		})
	},
}

func bareToken(token string, _ time.Time) (string, error) { return token, nil }

func asJSON(value any) (string, error) {
	encoded, err := json.Marshal(value)
	return string(encoded), err
}
