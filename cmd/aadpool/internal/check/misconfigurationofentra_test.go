package check_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
)

// misconfigurationsOfEntra are those of the way from the credential to Entra. azidentity retries as it does by default.
var misconfigurationsOfEntra = []misconfiguration{
	{
		"13: Entra's certificate is not trusted", secretWithoutDiscovery,
		diag.Credential, diag.EntraTrust, "credential", "127.0.0.1",
		"SSL_CERT_FILE",
		"x509: certificate signed by unknown authority", withTransport(func(*testing.T, commandtest.Azure) *http.Transport {
			return &http.Transport{}
		}),
	},
	{
		"13: Entra's certificate is not trusted by az", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.AddProgram(t, "az",
				`echo "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / `+
					`(Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify `+
					`failed')))" >&2; exit 1`)
			return a.Server.DSN(commandtest.Ada.Name), []string{"--credential", "cli"}
		},
		diag.Credential, diag.EntraTrust, "credential", "", "REQUESTS_CA_BUNDLE",
		"CERTIFICATE_VERIFY_FAILED", nil,
	},
	{
		"13: Entra's name does not resolve", func(t *testing.T, a commandtest.Azure) (string, []string) {
			dsn, flags := secretWithoutDiscovery(t, a)
			t.Setenv("AZURE_AUTHORITY_HOST", "https://login.example")
			return dsn, flags
		},
		diag.Credential, diag.EntraDNS, "credential", "login.example", "nslookup login.example",
		"no such host",
		withTransport(func(*testing.T, commandtest.Azure) *http.Transport {
			return &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp",
					Err: &net.DNSError{Err: "no such host", Name: "login.example", IsNotFound: true}}
			}}
		}),
	},
	{
		"13: Entra refuses connections", func(t *testing.T, a commandtest.Azure) (string, []string) {
			dsn, flags := secretWithoutDiscovery(t, a)
			t.Setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:"+commandtest.ClosedPort(t))
			return dsn, flags
		},
		diag.Credential, diag.EntraUnreachable, "credential", "127.0.0.1:", "HTTPS_PROXY",
		"connection refused",
		withTransport(func(*testing.T, commandtest.Azure) *http.Transport { return &http.Transport{} }),
	},
	{
		"13: Entra does not answer", func(t *testing.T, a commandtest.Azure) (string, []string) {
			dsn, _ := secretWithoutDiscovery(t, a)
			silent, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = silent.Close() })
			t.Setenv("AZURE_AUTHORITY_HOST", "https://"+silent.Addr().String())
			return dsn, []string{"--timeout", "1s"}
		},
		diag.Credential, diag.EntraUnreachable, "credential", "127.0.0.1:", "HTTPS_PROXY", "",
		withTransport(func(*testing.T, commandtest.Azure) *http.Transport { return &http.Transport{} }),
	},
	{
		"13: Entra answers with an error of its own", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.SetFailure(aadpooltest.ServerError(503))
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.EntraDown, "credential", "AADSTS90033", "azure.status.microsoft",
		"AADSTS90033", nil,
	},
	{
		"13: Entra refuses in words that nobody knows", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.SetFailure(aadpooltest.OAuthError("invalid_grant", 99999, "It rains."))
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.OtherCredential, "credential", "AADSTS99999",
		"https://aka.ms/azsdk/go/identity/troubleshoot", "AADSTS99999", nil,
	},
	{
		"14: instance discovery is out of reach", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.Discovery, "credential",
		"login.microsoftonline.com",
		"--disable-instance-discovery", "connection refused",
		withTransport(func(t *testing.T, a commandtest.Azure) *http.Transport {
			nobody := "127.0.0.1:" + commandtest.ClosedPort(t)
			return &http.Transport{TLSClientConfig: trust(t, a),
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					if strings.HasPrefix(address, diag.PublicAuthority) {
						address = nobody
					}
					return new(net.Dialer).DialContext(ctx, network, address)
				}}
		}),
	},
}

func secretWithoutDiscovery(t *testing.T, a commandtest.Azure) (string, []string) {
	a.UseSecret(t)
	t.Setenv(commandtest.DiscoveryEnv, "true")
	return a.Server.DSN("orders-api"), nil
}

// trust is a TLS config that knows the certificate of the stand-in for Entra.
func trust(t *testing.T, a commandtest.Azure) *tls.Config {
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(a.CertificatePEM()))
	return &tls.Config{RootCAs: roots}
}

// withTransport has credentials go through another transport than the one that reaches the stand-in alone, with
// azidentity's own retries.
func withTransport(
	make func(*testing.T, commandtest.Azure) *http.Transport,
) func(*testing.T, commandtest.Azure, invocation.System) invocation.System {
	return func(t *testing.T, a commandtest.Azure, o invocation.System) invocation.System {
		transport := make(t, a)
		t.Cleanup(transport.CloseIdleConnections)
		o.ClientOptions.Transport = &http.Client{Transport: transport}
		o.ClientOptions.Retry = policy.RetryOptions{}
		o.ClientOptions.Cloud = cloud.Configuration{} // AZURE_AUTHORITY_HOST says it
		return o
	}
}

// requests counts what goes through a transport, by method and address.
type requests struct {
	policy.Transporter
	mu sync.Mutex
	of map[string]int // guarded by mu
}

func (r *requests) Do(request *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.of[request.Method+" "+request.URL.Redacted()]++
	r.mu.Unlock()
	return r.Transporter.Do(request)
}

func (r *requests) most() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Max(append(slices.Collect(maps.Values(r.of)), 0))
}

// TestWhatLastsIsToldAtOnce: azidentity retries for six seconds and more what no retry mends.
func TestWhatLastsIsToldAtOnce(t *testing.T) {
	for _, row := range misconfigurationsOfEntra {
		if row.system == nil || strings.Contains(row.name, "does not answer") {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			dsn, flags := row.make(t, a)
			o := row.around(t, a)
			asked := &requests{Transporter: o.ClientOptions.Transport, of: map[string]int{}}
			o.ClientOptions.Transport = asked
			got := commandtest.Run(t, o, append([]string{"token"}, flags...)...)
			assert.Equal(t, diag.Credential, got.Status)
			assert.LessOrEqual(t, asked.most(), 2, "azidentity by itself makes a request four times: %v", asked.of)
			assert.Regexp(t, `^aadpool: [^\n]+\n$`, got.Stderr)

			checked := runInto(t, row.around(t, a), failureOf(row.step),
				append([]string{"check", "--json", dsn}, flags...)...)
			told := commandtest.ParseResult(t, checked.Stdout).Failure
			require.NotNil(t, told, checked.Stdout)
			assert.Contains(t, got.Stderr, ". "+told.Meaning+" To fix: "+told.FirstCommand(), "as aadpool check says it")
		})
	}
}

func TestInstanceDiscoveryCanBeTurnedOff(t *testing.T) {
	a := commandtest.New(t)
	dsn, flags := misconfigurationsOfEntra[len(misconfigurationsOfEntra)-1].make(t, a)
	o := misconfigurationsOfEntra[len(misconfigurationsOfEntra)-1].around(t, a)
	got := commandtest.Run(t, o, append([]string{"check", dsn, "--disable-instance-discovery"}, flags...)...)
	assert.Equal(t, diag.OK, got.Status, got.Stdout)
}

// startOldPostgres is how PostgreSQL 13.23 takes a password: a long one ends the connection without a word. It returns
// the port.
func startOldPostgres(t *testing.T) string {
	any := httptest.NewTLSServer(nil)
	config := &tls.Config{Certificates: any.TLS.Certificates}
	any.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go refuseAsOldPostgres(conn, config)
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	return port
}

func refuseAsOldPostgres(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return
	}
	secured := tls.Server(conn, config)
	backend = pgproto3.NewBackend(secured, secured)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationCleartextPassword{})
	if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeCleartextPassword) != nil {
		return
	}
	message, err := backend.Receive()
	if password, ok := message.(*pgproto3.PasswordMessage); err != nil || !ok || len(password.Password) > 995 {
		return
	}
	backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01",
		Message: `password authentication failed for user "orders-api"`})
	_ = backend.Flush()
}
