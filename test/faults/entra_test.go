package faults_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// entra is what a credential reaches Entra by, and what can become of it.
type entra struct {
	azuretest.Azure
	client atomic.Pointer[http.Client]
}

// Do makes it azcore's transport.
func (e *entra) Do(r *http.Request) (*http.Response, error) { return e.client.Load().Do(r) }

func (e *entra) fails(f aadpooltest.Failure) { e.SetFailure(f) }

// unreachable has requests fail on their way to Entra: each makes a connection of its own by that transport.
func (e *entra) unreachable(transport *http.Transport) {
	transport.DisableKeepAlives = true
	e.client.Store(&http.Client{Transport: transport})
}

// dial connects to another place than the one asked for.
func dial(address string, dialer net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}
}

// pace is between two writes, each on a new connection. Logins are what these tests compute with.
const pace = 100 * time.Millisecond

// writeUntil writes on new connections until a token ends. On a busy machine it may end while a login by it is under
// way.
func writeUntil(t *testing.T, writes *azuretest.Writes, pool *pgxpool.Pool, ends time.Time) {
	t.Helper()
	ticks := time.NewTicker(pace)
	defer ticks.Stop()
	for ; time.Until(ends) > 500*time.Millisecond; <-ticks.C {
		pool.Reset()
		if err := writes.Write(t.Context(), pool); err != nil {
			require.True(t, time.Now().After(ends), "while the token is valid: %v", err)
		}
	}
}

// TestEntraFailsWhileAPoolIsInUse has each connect be a new one. While the token lasts no connect fails and nobody
// notices but the log. Past its end each error says what is wrong and when the next try is due. When Entra is well
// again, so is the pool, after the pause that is due. What has been acknowledged is there.
func TestEntraFailsWhileAPoolIsInUse(t *testing.T) {
	const timeout = 2 * time.Second
	noRetries := func(o *azcore.ClientOptions) { o.Retry.MaxRetries = -1 }
	asByDefault := func(*azcore.ClientOptions) {}
	tests := map[string]func(*testing.T){}
	for _, row := range []struct {
		name    string
		retries func(*azcore.ClientOptions)
		fail    func(*entra)
		sees    string // past the token's end
	}{
		{"hangs", noRetries, func(e *entra) { e.fails(aadpooltest.Hanging()) }, "no answer within the token timeout of 2s"},
		{"answers too late", noRetries, func(e *entra) {
			e.SetLatency(time.Minute)
		}, "no answer within the token timeout of 2s"},
		{"refuses: the secret has expired", noRetries, func(e *entra) {
			e.fails(aadpooltest.OAuthError("invalid_client", 7000222, "The provided client secret keys are expired."))
		}, "AADSTS7000222"},
		{"refuses: the application is disabled", noRetries, func(e *entra) { e.Revoke(e.App.Name) }, "AADSTS7000112"},
		{"429, Retry-After: 60", noRetries, func(e *entra) { e.fails(aadpooltest.Throttled(time.Minute)) }, "AADSTS90055"},
		{"429, Retry-After: 60, which azidentity heeds", asByDefault, func(e *entra) {
			e.fails(aadpooltest.Throttled(time.Minute))
		},
			"no answer within the token timeout of 2s"},
		{"500", noRetries, func(e *entra) { e.fails(aadpooltest.ServerError(500)) }, "AADSTS90033"},
		{"503, with azidentity's retries", asByDefault, func(e *entra) {
			e.fails(aadpooltest.ServerError(503))
		}, "no answer within the token timeout of 2s"},
		{"answers garbage", noRetries, func(e *entra) {
			e.fails(aadpooltest.MalformedBody())
		}, `"access_token":"[redacted]"`},
		{"cuts its answer short", noRetries, func(e *entra) { e.fails(aadpooltest.TruncatedBody()) }, "EOF"},
		{"cuts the connection", noRetries, func(e *entra) { e.fails(aadpooltest.ConnectionCut()) }, "EOF"},
		{"has a certificate that nobody knows", noRetries, func(e *entra) { e.unreachable(&http.Transport{}) },
			"failed to verify certificate"},
		{"has a name that does not resolve", noRetries, func(e *entra) {
			noServer := func(context.Context, string, string) (net.Conn, error) {
				return nil, errors.New("network is unreachable")
			}
			e.unreachable(&http.Transport{DialContext: dial("entra.invalid:443",
				net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: noServer}})})
		}, "lookup entra.invalid"},
		{"is not listening", noRetries, func(e *entra) {
			e.unreachable(&http.Transport{DialContext: dial("127.0.0.1:1", net.Dialer{})})
		},
			"connection refused"},
	} {
		e := &entra{Azure: azuretest.New(t)}
		e.SetTokenLife(6 * time.Second)
		options := e.ClientOptions()
		well := options.Transport.(*http.Client)
		e.client.Store(well)
		options.Transport = e
		row.retries(&options)
		cred, err := azidentity.NewClientSecretCredential(e.TenantID(), e.App.ClientID, e.App.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
		require.NoError(t, err)
		_, err = cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience +
			"/.default"}})
		require.NoError(t, err) // it knows Entra's endpoints now
		writes := azuretest.NewWrites(t, e.Azure)

		tests[row.name] = func(t *testing.T) {
			// Within this timeout the first token of a busy machine may not come.
			pool, hook := eventuallyNewPool(t, e.DSN()+"&pool_max_conns=2", cred, aadpool.WithTokenTimeout(timeout))
			defer writes.CheckNothingIsLost(t)

			row.fail(e)
			ends := hook.Stats().TokenExpires
			ticks := time.NewTicker(pace)
			defer ticks.Stop()
			failing := time.Now()
			writeUntil(t, writes, pool, ends)
			<-time.After(time.Until(ends.Add(time.Second)))
			seen := false
			for start := time.Now(); time.Since(start) < time.Second || (!seen && time.Since(start) < time.Minute); <-ticks.C {
				pool.Reset()
				err := writes.Write(t.Context(), pool)
				require.ErrorContains(t, err, "aadpool: no access token for https://ossrdbms-aad.database.windows.net/.default: ")
				require.Regexp(t, `\((next try in|asked again) `, err.Error())
				seen = seen || strings.Contains(err.Error(), row.sees) // on a machine that is too busy there is a timeout before
				azuretest.Printed.Value(err)
			}
			assert.True(t, seen, row.sees)
			assert.Positive(t, hook.Stats().FailedFetches)
			assert.LessOrEqual(t, hook.Stats().FailedFetches, 6+int64(time.Since(failing)/time.Second),
				"tries, though there were ten connects a second")

			e.SetFailure(aadpooltest.Failure{})
			e.SetLatency(0)
			e.Register(e.App)
			e.client.Store(well)
			require.Eventually(t, func() bool {
				return writes.Write(t.Context(), pool) == nil
			}, time.Minute, 10*time.Millisecond)
		}
	}
	a := azuretest.New(t)
	writes := azuretest.NewWrites(t, a)
	tests["slow: connects that need the new token wait for it, and none fails"] = func(t *testing.T) {
		const conns, latency = 8, time.Second
		a.SetTokenLife(6 * time.Second)
		pool, hook := newPool(t, a.DSN()+"&pool_max_conns=8", a.Credential(t), nil)
		defer writes.CheckNothingIsLost(t)
		<-time.After(time.Until(hook.Stats().TokenExpires))
		a.SetTokenLife(time.Hour) // nor is the new one renewed, however long all this takes
		a.SetLatency(latency)
		requests := a.Requests()
		var connecting sync.WaitGroup
		start := time.Now() // one for all: those that begin later find the fetch under way
		for range conns {
			connecting.Go(func() {
				assert.NoError(t, writes.Write(t.Context(), pool))
				assert.GreaterOrEqual(t, time.Since(start), latency)
			})
		}
		connecting.Wait()
		assert.Equal(t, requests+1, a.Requests(), "for one fetch")
	}
	together(t, tests)
}
