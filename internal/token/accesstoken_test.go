package token

import (
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestStateOfAToken(t *testing.T) {
	names := map[State]string{Gone: "gone", LastMinute: "last minute", Due: "due", Fresh: "fresh"}
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
			token, err := New(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.life)}, now, 0)
			require.NoError(t, err)
			assert.Equal(t, row.want, names[token.State(now.Add(row.life-row.left))])
		})
	}
	t.Run("none", func(t *testing.T) {
		assert.Equal(t, Gone, (*AccessToken)(nil).State(time.Now()))
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
		{"a moment less than a second left", time.Second - 1,
			"a token that expires in 999.999999ms; check this machine's clock"},
		{"a second left", time.Second, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := New(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.left)}, now, 0)
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
		{"claims that tell less than what is left", azuretest.JWT(`{"iat":1767225600,"exp":1767225660}`), time.Hour,
			time.Hour},
		{"claims that end before they begin", azuretest.JWT(`{"iat":1767230100,"exp":1767225600}`), time.Hour, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			token, err := New(azcore.AccessToken{Token: row.token, ExpiresOn: now.Add(row.left)}, now, 0)
			require.NoError(t, err)
			assert.Equal(t, row.want, token.life())
		})
	}
}

// A token's times are compared by the wall clock: the monotonic one stands still while a machine sleeps.
func TestTokensTimesHaveNoMonotonicReading(t *testing.T) {
	now := time.Now()
	token, err := New(azcore.AccessToken{Token: "token", ExpiresOn: now.Add(time.Hour), RefreshOn: now.Add(time.Minute)},
		now, 0)
	require.NoError(t, err)
	assert.NotContains(t, token.expires.String(), "m=")
	assert.NotContains(t, token.renewAt.String(), "m=")
}

func TestRefreshTime(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name            string
		life, refreshOn time.Duration // from now; no RefreshOn if zero
		want            time.Duration
	}{
		{"five minutes before the end of a long life", time.Hour, 0, 55 * time.Minute},
		{"a fifth before the end of a short one", 10 * time.Minute, 0, 8 * time.Minute},
		{"RefreshOn where the credential gave it", 24 * time.Hour, 12 * time.Hour, 12 * time.Hour},
		{"RefreshOn in the past: at once", 24 * time.Hour, -time.Hour, -time.Hour},
		{"not so late as a RefreshOn past the end", time.Hour, 2 * time.Hour, 55 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.life)}
			if row.refreshOn != 0 {
				answer.RefreshOn = now.Add(row.refreshOn)
			}
			token, err := New(answer, now, 0)
			require.NoError(t, err)
			assert.Equal(t, row.want, token.renewAt.Sub(now.Round(0)))
		})
	}
}

func TestPoolsLifetimeIsTheLongestThatATokenMayHave(t *testing.T) {
	const m = time.Minute
	for _, row := range []struct {
		name          string
		claimed, left time.Duration // by the claims, 0 for a token without; and when the credential returned it
		want          time.Duration
	}{
		{"the shortest life that Entra draws", 60 * m, 60 * m, 90 * m},
		{"with little of it left, from a cache", 75 * m, 6 * m, 90 * m},
		{"issued five minutes ago by its claims, as Entra's are", 65 * m, 60*m - time.Second, 90 * m},
		{"the longest", 90 * m, 90 * m, 90 * m},
		{"the longest, issued five minutes ago by its claims", 95 * m, 90 * m, 95 * m},
		{"a managed identity's", 24 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{"less, which an administrator has set", 30 * m, 30 * m, 30 * m},
		{"no claims to tell whose it is", 0, 60 * m, 60 * m},
		{"the credential says more than the claims", 75 * m, 135 * m, 135 * m},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := ReadClaims(azuretest.JWT(fmt.Sprintf(`{"iat":1,"exp":%d}`, 1+int(row.claimed.Seconds()))))
			assert.Equal(t, row.want, (&AccessToken{leftWhen: row.left, claims: claims}).LongestLife())
		})
	}
}

func TestRenewalSpread(t *testing.T) {
	now := time.Now().Round(0)
	for _, row := range []struct {
		name   string
		margin time.Duration // from the renewal to the expiry
		share  float64
		want   time.Duration
	}{
		{"none", 5 * time.Minute, 0, 0},
		{"half", 5 * time.Minute, 0.5, time.Minute},
		{"all: two fifths of the margin", 5 * time.Minute, 1, 2 * time.Minute},
		{"an hour at most", 12 * time.Hour, 1, time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			token, err := New(azcore.AccessToken{Token: "x", ExpiresOn: now.Add(row.margin), RefreshOn: now}, now, row.share)
			require.NoError(t, err)
			assert.Equal(t, row.want, token.RenewAt().Sub(now))
		})
	}
}
