package tokens

import (
	"encoding/json"
	"strings"
	"time"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// Formats are what consumers of tokens read.
var Formats = map[string]func(token string, expires time.Time) (string, error){
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
		return "export PGPASSWORD=" + diag.ShellQuote(token), nil
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
