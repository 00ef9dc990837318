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

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/token"
)

func TestStateOfAToken(t *testing.T) {
	names := map[tokenState]string{stateGone: "gone", stateLastMinute: "last minute", stateDue: "due", stateFresh: "fresh"}
	for _, row := range []struct {
		name       string
		life, left time.Duration
		want       string
	}{
		{"of an hour, new", time.Hour, time.Hour, "fresh"},
		{"of an hour, a moment before five minutes are left", time.Hour, 5*time.Minute + 1, "fresh"},
		{"of an hour, five minutes left", time.Hour, 5 * time.Minute, "due"},
		{"of an hour, thirty seconds left", time.Hour, 30 * time.Second, "due"},
		{"of an hour, less left", time.Hour, 30*time.Second - 1, "last minute"},
		{"of an hour, a moment left", time.Hour, 1, "last minute"},
		{"of an hour, at its end", time.Hour, 0, "gone"},
		{"of an hour, later", time.Hour, -time.Hour, "gone"},
		{"of twenty seconds, a moment before a fifth is left", 20 * time.Second, 4*time.Second + 1, "fresh"},
		{"of twenty seconds, a fifth left", 20 * time.Second, 4 * time.Second, "due"},
		{"of twenty seconds, a fiftieth left", 20 * time.Second, 400 * time.Millisecond, "due"},
		{"of twenty seconds, less left", 20 * time.Second, 400*time.Millisecond - 1, "last minute"},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := time.Now()
			token, err := newAccessToken(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.life)}, now)
			require.NoError(t, err)
			assert.Equal(t, row.want, names[token.state(now.Add(row.life-row.left))])
		})
	}
	t.Run("none", func(t *testing.T) {
		assert.Equal(t, stateGone, (*accessToken)(nil).state(time.Now()))
	})
}

func TestTokenWithoutLifeIsNotTaken(t *testing.T) {
	now := time.Now().Round(0)
	for _, row := range []struct {
		name string
		left time.Duration
		says string
	}{
		{"just expired", 0, "a token that expired 0s ago; check this machine's clock"},
		{"a moment less than a second left", time.Second - 1, "a token that expires in 999.999999ms; check this machine's clock"},
		{"a second left", time.Second, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := newAccessToken(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.left)}, now)
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.says)
		})
	}
}

func TestLifeIsThatOfTheClaimsWhereTheyTellMore(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name, token string
		left, want  time.Duration
	}{
		{"opaque: what is left", "opaque", time.Hour, time.Hour},
		{"six minutes of 75 left", azuretest.JWT(`{"iat":1767225600,"exp":1767230100}`), 6 * time.Minute, 75 * time.Minute},
		{"claims that tell less than what is left", azuretest.JWT(`{"iat":1767225600,"exp":1767225660}`), time.Hour, time.Hour},
		{"claims that end before they begin", azuretest.JWT(`{"iat":1767230100,"exp":1767225600}`), time.Hour, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			token, err := newAccessToken(azcore.AccessToken{Token: row.token, ExpiresOn: now.Add(row.left)}, now)
			require.NoError(t, err)
			assert.Equal(t, row.want, token.life())
		})
	}
}

// A token's times are compared by the wall clock: the monotonic one stands still while a machine sleeps.
func TestTokensTimesHaveNoMonotonicReading(t *testing.T) {
	now := time.Now()
	token, err := newAccessToken(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(time.Hour), RefreshOn: now.Add(time.Minute)}, now)
	require.NoError(t, err)
	assert.NotContains(t, token.expires.String(), "m=")
	assert.NotContains(t, token.renewAt.String(), "m=")
}

// valueCredential is a credential that is no pointer, so that whoever holds it prints it.
type valueCredential struct{ secret string }

func (valueCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, nil
}

func TestTokenNeverPrintsItself(t *testing.T) {
	secret := azuretest.JWT(`{"upn":"ada@contoso.example"}`)
	made, err := newAccessToken(azcore.AccessToken{Token: secret, ExpiresOn: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	hook := &Hook{getToken: valueCredential{"client-secret"}.GetToken}
	cache, _ := newTestCache(azuretest.Issuing(time.Hour, 0))
	cache.token = made
	hook.cache.Store(cache)

	var out bytes.Buffer
	for _, value := range []any{made, struct{ Token *accessToken }{made}, []*accessToken{made}, cache, hook, &login{token: made}, errors.Join(azuretest.ErrEntra)} {
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
	assert.Contains(t, out.String(), token.Redacted)
}
