package service_test

import (
	"context"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

var admin = store.Actor{Name: "test"}

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders", "orders:read")
	first := e.logIn(orders, "scope", ordersAPI+"/.default")
	second := e.refresh(e.replica, orders, first.RefreshToken)
	require.Equal(t, 200, second.status, "%s", second.body)
	assert.NotEqual(t, first.RefreshToken, second.RefreshToken)
	_, claims := decodeJWT(t, second.AccessToken)
	assert.Equal(t, ordersAPI, claims["aud"], "of the login")

	require.NoError(t, e.store().Grant(context.Background(), admin, orders.ClientID, "orders:write"))
	require.NoError(t, e.store().Revoke(context.Background(), admin, orders.ClientID, "orders:read"))
	third := e.refresh(e.replica, orders, second.RefreshToken)
	require.Equal(t, 200, third.status)
	_, claims = decodeJWT(t, third.AccessToken)
	assert.Equal(t, []any{"orders:write"}, claims["roles"], "permissions are those of now")
	assert.Equal(t, []string{"principal.created orders:read", "key.created", "login.succeeded api://orders",
		"token.refreshed", "principal.permission_granted orders:write", "principal.permission_revoked orders:read",
		"token.refreshed"}, withoutKeyID(e.events()))
}

// withoutKeyID sorts the first key's record after the first principal's, and cuts its detail.
func withoutKeyID(events []string) []string {
	events[0], events[1] = events[1], events[0][:len("key.created")]
	return events
}

func TestRefreshWithAnAudience(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders")
	tokens := e.logIn(orders)
	other := e.refresh(e.replica, orders, tokens.RefreshToken, "scope", ordersAPI+"/.default")
	assert.Equal(t, "invalid_scope", other.Error, "not another one than the login's")
	assert.Equal(t, "invalid_target", e.refresh(e.replica, orders, tokens.RefreshToken, "resource", ordersAPI).Error)
	assert.Equal(t, "invalid_target", e.refresh(e.replica, orders, tokens.RefreshToken, "audience", "api://payroll").Error)
	same := e.refresh(e.replica, orders, tokens.RefreshToken, "resource", "api://tokenservice", "scope",
		"api://tokenservice/.default")
	assert.Equal(t, 200, same.status, "and the token is still good")
}

func TestReuseRevokesTheFamily(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders")
	stolen := e.logIn(orders)
	apart := e.logIn(orders)
	second := e.refresh(e.replica, orders, stolen.RefreshToken)
	third := e.refresh(e.replica, orders, second.RefreshToken)
	require.Equal(t, 200, third.status)

	assert.Equal(t, "invalid_grant", e.refresh(e.replica, orders, stolen.RefreshToken).Error, "a used one")
	assert.Equal(t, "invalid_grant", e.refresh(e.replica, orders, third.RefreshToken).Error,
		"and then the newest of its family")
	assert.Equal(t, 200, e.refresh(e.replica, orders, apart.RefreshToken).status, "but not that of another login")
	events := e.events()
	assert.Equal(t, []string{"token.reused used twice", "token.refresh_refused revoked", "token.refreshed"},
		events[len(events)-3:])
}

// Several workers of one client, or a client whose answer was lost: each gets the same next token, and it is good.
func TestOneTokenUsedAtTheSameTimeLeadsToOneNext(t *testing.T) {
	t.Parallel()
	e := setup(t)
	replicas := []*localservice.Replica{e.replica, e.start(nil)}
	orders := e.register("orders")
	for range 10 {
		tokens := e.logIn(orders)
		next := e.refreshAtOnce(replicas, orders, tokens.RefreshToken, 6)
		require.Len(t, next, 1)
		for token := range next {
			assert.Equal(t, 200, e.refresh(e.replica, orders, token).status)
		}
	}
	events := e.events()
	assert.Equal(t, []string{"token.refreshed", "token.refresh_repeated", "token.refresh_repeated"},
		events[len(events)-7:len(events)-4])
}

// refreshAtOnce uses one refresh token so many times at the same moment, and returns the tokens that came of it.
func (e *environment) refreshAtOnce(replicas []*localservice.Replica, as localservice.Registration, token string,
	times int) map[string]bool {
	answers := make(chan answer, times)
	var using sync.WaitGroup
	for n := range times {
		using.Go(func() {
			a, err := e.send(tokenRequest(replicas[n%len(replicas)], as, "grant_type", "refresh_token", "refresh_token", token))
			assert.NoError(e.t, err)
			answers <- a
		})
	}
	using.Wait()
	close(answers)
	next := map[string]bool{}
	for a := range answers {
		assert.Equal(e.t, 200, a.status, "%s", a.body)
		next[a.RefreshToken] = true
	}
	return next
}

// What may look like a lost answer or concurrent use, and is not.
func TestAUsedTokenIsReuse(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.Config.OAuth.RefreshTokens.Grace = 0
	graceless := e.start(nil)
	orders, thief := e.register("orders"), e.register("thief")
	for _, row := range []struct {
		name  string
		again func(used, next answer) answer
		event string
	}{
		{"after the grace", func(used, _ answer) answer {
			_, err := e.replica.Pool.Exec(context.Background(),
				"update refresh_tokens set used_at = used_at - '2 minutes'::interval")
			require.NoError(t, err)
			return e.refresh(e.replica, orders, used.RefreshToken)
		}, "token.reused used twice"},
		{"once the next one is used", func(used, next answer) answer {
			require.Equal(t, 200, e.refresh(e.replica, orders, next.RefreshToken).status)
			return e.refresh(e.replica, orders, used.RefreshToken)
		}, "token.reused used twice"},
		{"by another client", func(used, _ answer) answer {
			return e.refresh(e.replica, thief, used.RefreshToken)
		}, "token.reused used by another client"},
		{"without a grace", func(used, _ answer) answer {
			return e.refresh(graceless, orders, used.RefreshToken)
		}, "token.reused used twice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			used := e.logIn(orders)
			next := e.refresh(e.replica, orders, used.RefreshToken)
			require.Equal(t, 200, next.status)
			assert.Equal(t, "invalid_grant", row.again(used, next).Error)
			assert.Equal(t, "invalid_grant", e.refresh(e.replica, orders, next.RefreshToken).Error, "the family has ended")
			events := e.events()
			assert.Equal(t, row.event, events[len(events)-2])
		})
	}
}

// Within the grace nothing else is forgiven.
func TestARepeatedRefreshIsStillRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders")
	for _, row := range []struct {
		name, change, scope, want string
	}{
		{"when its login is revoked", "update refresh_families set revoked_at = now()", "", "invalid_grant"},
		{"when its login has expired", "update refresh_families set expires_at = now()", "", "invalid_grant"},
		{"when it has expired", "update refresh_tokens set expires_at = now() where used_at is not null", "",
			"invalid_grant"},
		{"for another audience", "select", ordersAPI + "/.default", "invalid_scope"},
	} {
		t.Run(row.name, func(t *testing.T) {
			used := e.logIn(orders)
			require.Equal(t, 200, e.refresh(e.replica, orders, used.RefreshToken).status)
			_, err := e.replica.Pool.Exec(context.Background(), row.change)
			require.NoError(t, err)
			assert.Equal(t, row.want, e.refresh(e.replica, orders, used.RefreshToken, "scope", row.scope).Error)
		})
	}
}

func TestWhatEndsARefreshToken(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	thief := e.register("thief")
	revoke := func(as localservice.Registration, token, hint string) answer {
		r := tokenRequest(e.replica, as, "token", token, "token_type_hint", hint)
		r.URL, _ = url.Parse(e.replica.URL + "/tokenservice/oauth2/v2.0/revoke")
		return e.do(r)
	}
	for name, end := range map[string]func(t *testing.T, principal localservice.Registration,
		tokens answer) (wantError string){
		"its time": func(t *testing.T, _ localservice.Registration, tokens answer) string {
			_, err := e.replica.Pool.Exec(ctx, "update refresh_tokens set expires_at = now() where token_hash = $1",
				secret.ParseRefreshToken(tokens.RefreshToken).Hash())
			require.NoError(t, err)
			return "invalid_grant"
		},
		"its family's time": func(t *testing.T, principal localservice.Registration, _ answer) string {
			_, err := e.replica.Pool.Exec(ctx, "update refresh_families set expires_at = now() where client_id = $1",
				principal.ClientID)
			require.NoError(t, err)
			return "invalid_grant"
		},
		"being disabled": func(t *testing.T, principal localservice.Registration, _ answer) string {
			require.NoError(t, e.store().Disable(ctx, admin, principal.ClientID))
			var alive int
			require.NoError(t, e.replica.Pool.QueryRow(ctx,
				"select count(*) from refresh_families where client_id = $1 and revoked_at is null",
				principal.ClientID).Scan(&alive))
			assert.Zero(t, alive)
			return "invalid_client"
		},
		"being deleted": func(t *testing.T, principal localservice.Registration, _ answer) string {
			require.NoError(t, e.store().Delete(ctx, admin, principal.ClientID))
			return "invalid_client"
		},
		"its use by another client": func(t *testing.T, _ localservice.Registration, tokens answer) string {
			assert.Equal(t, "invalid_grant", e.refresh(e.replica, thief, tokens.RefreshToken).Error)
			return "invalid_grant"
		},
		"revocation": func(t *testing.T, principal localservice.Registration, tokens answer) string {
			assert.Equal(t, 200, revoke(principal, tokens.RefreshToken, "refresh_token").status)
			assert.Equal(t, 200, revoke(principal, tokens.RefreshToken, "").status, "a second time")
			return "invalid_grant"
		},
		"nothing that another client asks": func(t *testing.T, _ localservice.Registration, tokens answer) string {
			assert.Equal(t, "invalid_grant", revoke(thief, tokens.RefreshToken, "").Error)
			return ""
		},
		"nothing that is asked of an access token": func(t *testing.T, principal localservice.Registration,
			tokens answer) string {
			refused := revoke(principal, tokens.AccessToken, "access_token")
			assert.Equal(t, "unsupported_token_type", refused.Error)
			assert.Contains(t, string(refused.body), "ends within 10m0s by itself")
			return ""
		},
		"nothing that is asked of an unknown token": func(t *testing.T, principal localservice.Registration,
			_ answer) string {
			assert.Equal(t, 200, revoke(principal, "unknown", "").status)
			assert.Equal(t, "invalid_request", revoke(principal, "", "").Error)
			assert.Equal(t, "invalid_client", revoke(localservice.Registration{ClientID: principal.ClientID}, "unknown",
				"").Error)
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			principal := e.register(name)
			tokens := e.logIn(principal)
			want := end(t, principal, tokens)
			after := e.refresh(e.replica, principal, tokens.RefreshToken)
			assert.Equal(t, want, after.Error, "%s", after.body)
		})
	}
}

func TestMaintenanceDeletesWhatHasEnded(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	e.logIn(e.register("orders"))
	billing := e.register("billing")
	apart := e.refresh(e.replica, billing, e.logIn(billing).RefreshToken)
	_, err := e.replica.Pool.Exec(ctx,
		`update refresh_families set expires_at = now()
		where client_id = (select client_id from principals where name = 'orders')`)
	require.NoError(t, err)
	require.NoError(t, e.replica.Service.Maintain(ctx))
	var left, sealed int
	require.NoError(t, e.replica.Pool.QueryRow(ctx,
		"select count(*), count(sealed_successor) from refresh_tokens").Scan(&left, &sealed))
	assert.Equal(t, 2, left)
	assert.Equal(t, 1, sealed, "what a used token leads to")
	_, err = e.replica.Pool.Exec(ctx, "update refresh_tokens set used_at = used_at - '2 minutes'::interval")
	require.NoError(t, err)
	require.NoError(t, e.replica.Service.Maintain(ctx))
	require.NoError(t, e.replica.Pool.QueryRow(ctx, "select count(sealed_successor) from refresh_tokens").Scan(&sealed))
	assert.Zero(t, sealed, "and may not be asked for any longer")
	assert.Equal(t, 200, e.do(tokenRequest(e.replica, e.register("third"), "grant_type", "client_credentials")).status)
	assert.NotEmpty(t, apart.RefreshToken)
}
