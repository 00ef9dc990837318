package aadpool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRedact(t *testing.T) {
	token := jwt(`{"upn":"ada@contoso.example"}`)
	for _, row := range []struct{ name, text, want string }{
		{"a JWT", "got " + token + ", which is no JSON", "got [redacted], which is no JSON"},
		{"a JWT cut short", "got " + token[:40], "got [redacted]"},
		{"an answer's access token, opaque", `{"token_type":"Bearer","access_token":"0a1b-2c3d","expires_in":3599}`, `{"token_type":"Bearer","access_token":"[redacted]","expires_in":3599}`},
		{"an answer cut short", `{"access_token":"0a1b2c`, `{"access_token":"[redacted]`},
		{"an answer quoted in an error", `bytes were: {\"access_token\":\"0a1b\"}`, `bytes were: {\"access_token\":\"[redacted]\"}`},
		{"a request's form", "grant_type=client_credentials&client_secret=s3cr~t&scope=x", "grant_type=client_credentials&client_secret=[redacted]&scope=x"},
		{"what Entra says", "AADSTS7000215: Invalid client secret provided.", "AADSTS7000215: Invalid client secret provided."},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, redact(row.text))
		})
	}
}

func TestCredentialErrorIsRedactedButKeepsItsIdentity(t *testing.T) {
	cause := fmt.Errorf("cannot decode %s: %w", jwt(`{}`), errEntra)
	err := redactedError{cause}
	assert.Equal(t, "cannot decode [redacted]: "+errEntra.Error(), err.Error())
	assert.ErrorIs(t, err, errEntra)
	assert.ErrorIs(t, err, cause)
	var found interface{ Timeout() bool }
	assert.ErrorAs(t, redactedError{context.DeadlineExceeded}, &found)
	assert.NoError(t, errors.Unwrap(err), "which an error reporter would print")
}

// valueCredential is a credential that is no pointer, so that whoever holds it prints it.
type valueCredential struct{ secret string }

func (valueCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, nil
}

func TestTokenNeverPrintsItself(t *testing.T) {
	secret := jwt(`{"upn":"ada@contoso.example"}`)
	token, err := newAccessToken(azcore.AccessToken{Token: secret, ExpiresOn: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	hook := &Hook{getToken: valueCredential{"client-secret"}.GetToken}
	cache, _ := newTestCache(issuing(time.Hour, 0))
	cache.token = token
	hook.cache.Store(cache)

	var out bytes.Buffer
	for _, value := range []any{token, struct{ Token *accessToken }{token}, []*accessToken{token}, cache, hook, &login{token: token}, errors.Join(errEntra)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		_ = json.NewEncoder(&out).Encode(value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", value)
	}
	assert.NotContains(t, out.String(), secret)
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", secret))
	assert.NotContains(t, out.String(), "client-secret")
	assert.Contains(t, out.String(), redacted)
}
