package token

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/internal/azuretest"
)

var errEntra = errors.New("AADSTS90033: a transient error has occurred")

func TestRedact(t *testing.T) {
	token := azuretest.JWT(`{"upn":"ada@contoso.example"}`)
	for _, row := range []struct{ name, text, want string }{
		{"a JWT", "got " + token + ", which is no JSON", "got [redacted], which is no JSON"},
		{"a JWT cut short", "got " + token[:40], "got [redacted]"},
		{"an answer's access token, opaque", `{"token_type":"Bearer","access_token":"0a1b-2c3d","expires_in":3599}`,
			`{"token_type":"Bearer","access_token":"[redacted]","expires_in":3599}`},
		{"an answer cut short", `{"access_token":"0a1b2c`, `{"access_token":"[redacted]`},
		{"an answer quoted in an error", `bytes were: {\"access_token\":\"0a1b\"}`,
			`bytes were: {\"access_token\":\"[redacted]\"}`},
		{"a request's form", "grant_type=client_credentials&client_secret=s3cr~t&scope=x",
			"grant_type=client_credentials&client_secret=[redacted]&scope=x"},
		{"by the name that az and JavaScript have for it",
			`{"accessToken": "0a1b-2c3d", "refreshToken":"x1", 'idToken': 'y2'}`,
			`{"accessToken": "[redacted]", "refreshToken":"[redacted]", 'idToken': '[redacted]'}`},
		{"a client secret in camel case", "clientSecret=s3cr~t clientSecret: s3cr~t",
			"clientSecret=[redacted] clientSecret: [redacted]"},
		{"a quoted secret with a comma", `{"client_secret":"a,b c}d","scope":"x"}`,
			`{"client_secret":"[redacted]","scope":"x"}`},
		{"a quoted secret with a quote", `{"client_secret":"a\"b","scope":"x"}`,
			`{"client_secret":"[redacted]","scope":"x"}`},
		{"a quoted secret cut short", `{"client_secret":"a, b`, `{"client_secret":"[redacted]`},
		{"a secret in an escaped answer, with a comma", `\"clientSecret\": \"a,b\", \"x\"`,
			`\"clientSecret\": \"[redacted]\", \"x\"`},
		{"an opaque token in a header", "Authorization: Bearer 0a1b2c", "Authorization: Bearer [redacted]"},
		{"a header as Go prints it", "map[Authorization:[Bearer 0a1b2c] Accept:[x]]",
			"map[Authorization:[Bearer [redacted]] Accept:[x]]"},
		{"a header alone", "sent bearer 0a1b2c.", "sent bearer [redacted]."},
		{"a basic password in a header", "Proxy-Authorization: Basic dXNlcjpwYXNz", "Proxy-Authorization: Basic [redacted]"},
		{"the header of App Service", "X-IDENTITY-HEADER: 853b9a84-5bfa", "X-IDENTITY-HEADER: [redacted]"},
		{"a variable of the environment", "AZURE_CLIENT_SECRET=s3cr~t AZURE_CLIENT_ID=x",
			"AZURE_CLIENT_SECRET=[redacted] AZURE_CLIENT_ID=x"},
		{"a quoted password of a DSN", "host=h password='a b' user=u", "host=h password='[redacted]' user=u"},
		{"ADO.NET's", "Host=h;Password=a,b;Username=u", "Host=h;Password=[redacted];Username=u"},
		{"a URL's", "postgres://u:p,w@h/d", "postgres://u:[redacted]@h/d"},
		{"XML", "<accessToken>0a1b</accessToken>", "<accessToken>[redacted]</accessToken>"},
		{"a plain word as a password", "password=correct", "password=[redacted]"},
		{"words that explain a setting", "lacks AZURE_CLIENT_SECRET: they are the tenant",
			"lacks AZURE_CLIENT_SECRET: they are the tenant"},
		{"a command to type", "export AZURE_CLIENT_SECRET=… PGPASSWORD=$(aadpool token) PGPASSWORD=\"$TOKEN\"",
			"export AZURE_CLIENT_SECRET=… PGPASSWORD=$(aadpool token) PGPASSWORD=\"$TOKEN\""},
		{"what PostgreSQL says of a validator", "OAuth bearer authentication failed for user",
			"OAuth bearer authentication failed for user"},
		{"what Entra says", "AADSTS7000215: Invalid client secret provided.",
			"AADSTS7000215: Invalid client secret provided."},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, Redact(row.text))
		})
	}
}

func TestCredentialErrorIsRedactedButKeepsItsIdentity(t *testing.T) {
	cause := fmt.Errorf("cannot decode %s: %w", azuretest.JWT(`{}`), errEntra)
	err := NewRedactedError(cause)
	assert.Equal(t, "cannot decode [redacted]: "+errEntra.Error(), err.Error())
	assert.ErrorIs(t, err, errEntra)
	assert.ErrorIs(t, err, cause)
	var found interface{ Timeout() bool }
	assert.ErrorAs(t, NewRedactedError(context.DeadlineExceeded), &found)
	assert.NoError(t, errors.Unwrap(err), "which an error reporter would print")
}

// encodedSignature makes a token's signature as long as Entra's.
var encodedSignature = strings.Repeat("Tm8gc2lnbmF0dXJlIGF0IGFsbA", 13)

// TestScrub has a server repeat a token in the ways that cost it little.
func TestScrub(t *testing.T) {
	secret := azuretest.JWT(`{"upn":"ada@contoso.example","aud":"https://db.example","tid":"f1a252d8"}`) + encodedSignature
	parts := strings.Split(secret, ".")
	encoded := base64.StdEncoding.EncodeToString
	for _, row := range []struct{ name, text, want string }{
		{"as it is", "you sent " + secret + ", which is bad", "you sent [redacted], which is bad"},
		{"twice", secret + " " + secret, "[redacted] [redacted]"},
		{"its claims alone", "you sent " + parts[1], "you sent [redacted]"},
		{"its signature alone", "you sent " + parts[2], Redacted},
		{"its claims in two halves", "you sent " + parts[1][:40] + " and " + parts[1][40:], Redacted},
		{"spaces around the dots", strings.Join(parts[1:], " . "), Redacted},
		{"a space after each letter", strings.Join(strings.Split(parts[1], ""), " "), Redacted},
		{"upper case", strings.ToUpper(secret), Redacted},
		{"base64", encoded([]byte(secret)), Redacted},
		{"base64, one byte behind", encoded([]byte("!" + secret)), Redacted},
		{"base64, two bytes behind", encoded([]byte("!!" + secret)), Redacted},
		{"base64 in lines", strings.Join(chunks(encoded([]byte(secret)), 40), "\n"), Redacted},
		{"base64url", base64.RawURLEncoding.EncodeToString([]byte("!" + secret)), Redacted},
		{"hex", hex.EncodeToString([]byte(secret)), Redacted},
		{"hex with colons", strings.Join(chunks(hex.EncodeToString([]byte(secret)), 2), ":"), Redacted},
		{"a long run in a form that nobody knows", "you sent " + strings.Repeat("0a1b2c3d", 40),
			"you sent 0a1b2c3d[redacted]"},
		{"what steers a terminal or turns the direction of writing", "no\x1b[2J such\u202e role\x00\nat all",
			"no such role\nat all"},
		{"what Azure says", "The access token has expired. Acquire a new token and try again.",
			"The access token has expired. Acquire a new token and try again."},
		{"the longest name of a role", `password authentication failed for user "` + strings.Repeat("r", 63) + `"`,
			`password authentication failed for user "` + strings.Repeat("r", 63) + `"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, Scrub(row.text, secret))
		})
	}
	t.Run("an endless text", func(t *testing.T) {
		assert.Less(t, len(Scrub(strings.Repeat("a word ", 1<<20), secret)), maxText+10)
	})
	t.Run("a text as long as one may be", func(t *testing.T) {
		text := strings.Repeat("word ", maxText)[:maxText]
		assert.Equal(t, text, Scrub(text, secret))
	})
	t.Run("an opaque token", func(t *testing.T) {
		assert.Equal(t, "you sent [redacted]", Scrub("you sent 0a1b2c", "0a1b2c"))
	})
}

// TestCarries is about the shortest runs that count.
func TestCarries(t *testing.T) {
	const secret = "abcdefghijklmnopqrstuvwx" + "ABCDEFGHIJKLMNOPQRSTUVWY" // two fragments
	for _, row := range []struct {
		name, text, secret string
		want               bool
	}{
		{"the first fragment", secret[:fragment], secret, true},
		{"a fragment less one", secret[:fragment-1], secret, false},
		{"a secret of one fragment", secret[:fragment], secret[:fragment], true},
		{"a run across fragments, as long as two", "x" + secret[1:] + secret[:1], secret, true},
		{"nothing", "", secret, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, Carries(row.text, row.secret))
		})
	}
}

func chunks(s string, n int) (all []string) {
	for ; len(s) > n; s = s[n:] {
		all = append(all, s[:n])
	}
	return append(all, s)
}
