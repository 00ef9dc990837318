package docs_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
)

const server = "postgres://orders-api@orders.postgres.database.azure.com/orders"

var (
	errRefused = errors.New("AADSTS7000215: Invalid client secret provided")
	good       = issuing(`{"upn":"ada@contoso.com"}`, time.Hour)
	nameless   = issuing(`{"sub":"x"}`, time.Hour)
	guest      = issuing(`{"scp":"x","idp":"live.com","unique_name":"ada@fabrikam.com"}`, time.Hour)
	expired    = issuing(`{"upn":"ada@contoso.com"}`, -time.Minute)
	refused    = &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
		return azcore.AccessToken{}, errRefused
	}}
	heeding = &azuretest.Credential{Answer: func(ctx context.Context, _ int) (azcore.AccessToken, error) {
		<-ctx.Done()
		return azcore.AccessToken{}, ctx.Err()
	}}
)

func issuing(claims string, life time.Duration) azcore.TokenCredential {
	return azuretest.Static(azcore.AccessToken{Token: azuretest.JWT(claims), ExpiresOn: time.Now().Add(life)})
}

// with is the error of a Hook that has cred.
func with(cred azcore.TokenCredential, opts ...aadpool.Option) func(t *testing.T) error {
	return func(t *testing.T) error { return prepare(t, newHook(t, cred, opts...), server) }
}

// prepare is the error of a Hook's BeforeConnect.
func prepare(t *testing.T, hook *aadpool.Hook, dsn string) error {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return hook.BeforeConnect(t.Context(), config)
}

func parse(dsn string) func(t *testing.T) error {
	return func(t *testing.T) error {
		_, err := newHook(t, good).NewPool(t.Context(), dsn)
		return err
	}
}

// produced has for each message of the tables an error that says it.
var produced = map[string]func(t *testing.T) error{
	"no such host": func(t *testing.T) error {
		return dial(t, server, func(c *pgx.ConnConfig) {
			c.LookupFunc = func(_ context.Context, host string) ([]string, error) {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
		})
	},
	"hostname resolving error": func(t *testing.T) error {
		return dial(t, server, func(c *pgx.ConnConfig) {
			c.LookupFunc = func(context.Context, string) ([]string, error) { return nil, errRefused }
		})
	},
	"connect: connection refused": func(t *testing.T) error {
		return dial(t, "postgres://orders-api@"+freeport.For(t)+"/orders?sslmode=disable", nil)
	},
	"i/o timeout": func(*testing.T) error { return os.ErrDeadlineExceeded },
	"/.s.PGSQL.5432: connect: no such file or directory": func(t *testing.T) error {
		return dial(t, "user=orders-api host=/nonexistent", nil)
	},
	"x509: certificate is valid for …, not …": func(*testing.T) error {
		return x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a.example"}}, Host: "b.example"}
	},
	"x509: certificate signed by unknown authority": func(*testing.T) error { return x509.UnknownAuthorityError{} },
	"server refused TLS connection": func(t *testing.T) error {
		dsn := listen(t, func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 8)); err == nil { // SSLRequest
				_, _ = conn.Write([]byte("N"))
			}
		})
		return dial(t, strings.Replace(dsn, "sslmode=disable", "sslmode=require", 1), nil)
	},

	"aadpool: the credential is nil: …": func(*testing.T) error { _, err := aadpool.NewHook(nil); return err },
	"aadpool: the credential is a nil *…": func(*testing.T) error {
		_, err := aadpool.NewHook((*azidentity.ClientSecretCredential)(nil))
		return err
	},
	"aadpool: the DSN is empty and neither PGHOST nor PGSERVICE is set; …": parse(""),
	"aadpool: parsing the DSN: …":                                          parse("postgres://a:b:c@x:y/z"),
	"aadpool: parsing the DSN: there is an @ in the host; …": parse(
		"postgres://dev@contoso.com@orders.postgres.database.azure.com/orders"),
	"aadpool: parsing the DSN: there is an @ in the database's name; …": parse(
		"postgres://orders.postgres.database.azure.com/dev@contoso.com"),
	"aadpool: parsing the DSN: this looks like a connection string for another driver …": parse(
		"Server=db.example;Database=d;User Id=u;Password=p;"),
	"aadpool: parsing the DSN: the quotes around it are a part of it …": parse(`"` + server + `"`),
	"aadpool: parsing the DSN: this is the name of a variable …":        parse("$DATABASE_URL"),
	"aadpool: parsing the DSN: this is a line that sets a variable …":   parse("DATABASE_URL=" + server),
	"aadpool: parsing the DSN: no host is named, …":                     parse("user=orders-api"),
	"aadpool: parsing the DSN: …= is …'s: …":                            parse(server + "?schema=public"),
	"aadpool: parsing the DSN: …= is no parameter: did you mean …=?": parse(server +
		"?credentail=cli"),
	"aadpool: parsing the DSN: failed to configure TLS (unable to read CA file …); see the file that sslrootcert= or " +
		"PGSSLROOTCERT names": parse(
		server + "?sslrootcert=/nowhere/ca.pem"),
	"aadpool: refusing to send an access token to … in the clear: sslmode=verify-full asks for TLS, which a Unix " +
		"socket does not have …": parse(
		"host=/run/pg user=orders-api sslmode=verify-full"),
	"aadpool: refusing to send an access token to … in the clear: …": parse(server +
		"?sslmode=disable"),
	"aadpool: no access token for …: … (next try in …)":                              with(refused),
	"aadpool: no access token for …: … (asked again … ago, no answer yet)":           askedAgain,
	"the credential returned a token that expired … ago; check this machine's clock": with(expired),
	"no answer within the token timeout of …: …": with(heeding,
		aadpool.WithTokenTimeout(10*time.Millisecond)),
	"the credential did not return, though its context had ended": hang,
	"aadpool: no access token for …: stopped waiting for it: …":   stopWaiting,
	"aadpool: the access token names no user of this tenant: it is for the guest …; …": with(guest,
		aadpool.WithUserFromToken()),
	"aadpool: the access token names no user (…); …": with(nameless,
		aadpool.WithUserFromToken()),
	"… takes tokens for …, but … for …; use a pool for each, …": parse(
		"host=a.postgres.database.azure.com,b.postgres.database.usgovcloudapi.net user=orders-api"),
	"… takes tokens for …, but this Hook's are for …; …":                                       twoClouds,
	"aadpool: … has refused role … times in a row (next try in …): …":                          refusedAgain,
	"the server closed the connection without a word when it got an access token of … bytes …": hangUp,
	"the server sent over … bytes before the connection was up":                                flood,
	"aadpool: this config has already served for a connection; …":                              usedTwice,
}

// dial is the error of a connect that does not come to its login.
func dial(t *testing.T, dsn string, change func(*pgx.ConnConfig)) error {
	t.Helper()
	azuretest.ClearPGEnv(t)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	if change != nil {
		change(config)
	}
	_, err = pgx.ConnectConfig(t.Context(), config)
	return err
}

// deaf is a credential that does not return before the end of the test.
func deaf(t *testing.T) azcore.TokenCredential {
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	return &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
		<-end
		return azcore.AccessToken{}, errRefused
	}}
}

func hang(t *testing.T) error { return with(deaf(t), aadpool.WithTokenTimeout(10*time.Millisecond))(t) }

// askedAgain has a credential fail once, and then take its time.
func askedAgain(t *testing.T) error {
	released := make(chan struct{})
	t.Cleanup(func() { close(released) })
	hook := newHook(t, &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
		if n > 1 {
			<-released
		}
		return azcore.AccessToken{}, azuretest.ErrEntra
	}})
	for {
		var noToken *aadpool.TokenError
		err := prepare(t, hook, server)
		require.ErrorAs(t, err, &noToken)
		if noToken.NextTry.IsZero() {
			return err
		}
		<-time.After(time.Until(noToken.NextTry))
	}
}

func flood(t *testing.T) error {
	_, err := connect(t, newHook(t, good), listen(t, func(conn net.Conn) {
		if backend := askForPassword(conn); backend != nil {
			for range 100_000 {
				backend.Send(&pgproto3.ParameterStatus{Name: "a", Value: "b b b b b b b"})
			}
			_ = backend.Flush()
		}
	}))
	return err
}

func stopWaiting(t *testing.T) error {
	config, err := pgx.ParseConfig(server)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return newHook(t, deaf(t)).BeforeConnect(ctx, config)
}

func twoClouds(t *testing.T) error {
	hook := newHook(t, good)
	require.NoError(t, prepare(t, hook, server))
	return prepare(t, hook, "postgres://orders-api@orders.postgres.database.chinacloudapi.cn/orders")
}

func refusedAgain(t *testing.T) error {
	hook, dsn := newHook(t, good), listen(t, refuse("28P01", `password authentication failed for user "orders-api"`))
	said := func(err error) bool { return strings.Contains(err.Error(), "times in a row") }
	_, err := connect(t, hook, dsn)
	require.Error(t, err)
	// After two refusals a pause follows, in which the Hook itself answers. A busy machine may miss the first pause.
	for end := time.Now().Add(time.Minute); !said(err) && time.Now().Before(end); {
		_, err = connect(t, hook, dsn)
		require.Error(t, err)
	}
	return err
}

func hangUp(t *testing.T) error {
	_, err := connect(t, newHook(t, good), listen(t, func(conn net.Conn) { askForPassword(conn) }))
	return err
}

func usedTwice(t *testing.T) error {
	dsn := listen(t, func(conn net.Conn) {
		if backend := askForPassword(conn); backend != nil {
			backend.Send(&pgproto3.AuthenticationOk{})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			_ = backend.Flush()
			_, _ = backend.Receive() // Terminate
		}
	})
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	require.NoError(t, newHook(t, good).BeforeConnect(t.Context(), config))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	_, err = pgx.ConnectConfig(t.Context(), config)
	return err
}

func TestMessagesOfTheTablesAreWhatIsSaid(t *testing.T) {
	tested := map[string]bool{}
	for _, heading := range []string{"## Before the login: network, TLS, Entra", "## What aadpool says"} {
		for _, r := range table(t, troubleshooting, heading) {
			for _, message := range r.messages(0) {
				t.Run(message, func(t *testing.T) {
					tested[message] = true
					produce := produced[message]
					require.NotNil(t, produce, "line %d: no error says this", r.line)
					err := produce(t)
					require.Error(t, err)
					assertSays(t, message, err.Error())
				})
			}
		}
	}
	for _, message := range slices.Sorted(maps.Keys(produced)) {
		assert.True(t, tested[message], "no table has %q", message)
	}
}

// TestLogRecordsOfTheTable has a Hook do all that it logs.
func TestLogRecordsOfTheTable(t *testing.T) {
	log := &recorder{}
	logger := slog.New(log)
	synctest.Test(t, func(t *testing.T) {
		hook := newHook(t, &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n == 1 {
				return azuretest.NewToken(n, time.Minute), nil
			}
			return azcore.AccessToken{}, errRefused
		}}, aadpool.WithLogger(logger))
		require.NoError(t, prepare(t, hook, server))
		time.Sleep(53 * time.Second) // due: see docs/rotation.md
		require.NoError(t, prepare(t, hook, server))
		time.Sleep(time.Minute) // expired
		require.Error(t, prepare(t, hook, server))
		synctest.Wait()
	})
	_, err := connect(t, newHook(t, good, aadpool.WithLogger(logger)), listen(t, refuse("28000", "no")))
	require.Error(t, err)

	logged, rows := log.all(), table(t, troubleshooting, "## What aadpool logs")
	for _, said := range logged {
		assert.True(t, slices.ContainsFunc(rows, func(r row) bool { return isLogged(r, said) }), "no row for %s", said)
	}
	for _, r := range rows {
		assert.True(t, slices.ContainsFunc(logged, func(said string) bool { return isLogged(r, said) }),
			"line %d: not logged", r.line)
	}
}

func isLogged(r row, said string) bool {
	message, more := strings.CutSuffix(r.messages(1)[0], "…")
	level, text, _ := strings.Cut(said, " ")
	return level == strings.TrimSpace(r.cells[0]) && (text == message || more && strings.HasPrefix(text, message))
}

// A recorder is a slog.Handler that keeps level and message.
type recorder struct {
	mu      sync.Mutex
	records []string // guarded by mu
}

func (*recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler     { return r }
func (r *recorder) WithGroup(string) slog.Handler          { return r }

func (r *recorder) Handle(_ context.Context, record slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, strings.ToLower(record.Level.String())+" "+record.Message)
	return nil
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}
