package service_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/internal/initdb"
	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

// postgres is the one server of all tests. Each has a database of its own on it, and its own stand-ins for Azure.
var postgres *aadpooltest.Postgres

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	slog.SetDefault(slog.New(slog.NewJSONHandler(&everyLog, nil))) // what the libraries log
	signingkey.Reuse()
	initdb.Reuse()
	var err error
	if postgres, err = aadpooltest.StartPostgres(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := postgres.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := everyLog.check(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := leaktest.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// everyLog is what all replicas of all tests have logged, at every level, and what must not be in it.
var everyLog secretLog

type secretLog struct {
	mu      sync.Mutex
	log     bytes.Buffer
	secrets []string
}

func (l *secretLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(p)
}

// mustNotHold names a secret.
func (l *secretLog) mustNotHold(value string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.secrets = append(l.secrets, value)
}

// check looks at each place of the log once, whatever the number of secrets: they are found by their last letters,
// which are random in all of them.
func (l *secretLog) check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	const tail = 16
	byTail := map[string][]string{}
	for _, value := range l.secrets {
		if len(value) < tail {
			return fmt.Errorf("%q is too short for a secret", value)
		}
		end := value[len(value)-tail:]
		byTail[end] = append(byTail[end], value)
	}
	log := l.log.Bytes()
	for word := range bytes.FieldsFuncSeq(log, endsASecret) {
		for end := tail; end <= len(word); end++ {
			for _, value := range byTail[string(word[end-tail:end])] {
				if bytes.HasSuffix(word[:end], []byte(value)) {
					return fmt.Errorf("of the %d secrets and tokens that the tests used, one is in the log; its first letters: %.6s",
						len(l.secrets), value)
				}
			}
		}
	}
	return nil
}

// endsASecret reports whether a letter is in no secret and no token: those are base64url, and JWTs have dots.
func endsASecret(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
}

func TestTheLogIsSearchedForSecrets(t *testing.T) {
	for name, row := range map[string]struct {
		log   string
		found bool
	}{
		"as a word":               {"{\"msg\":\"tss_0123456789abcdefghij\"}", true},
		"with letters around it":  {"xtss_0123456789abcdefghijx.y", true},
		"at the end":              {"msg=tss_0123456789abcdefghij", true},
		"its end alone":           {"0123456789abcdefghij", false},
		"without its last letter": {"tss_0123456789abcdefghi", false},
		"nothing":                 {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			var log secretLog
			log.mustNotHold("another-secret-0123456789")
			log.mustNotHold("tss_0123456789abcdefghij")
			_, _ = log.Write([]byte(row.log))
			assert.Equal(t, row.found, log.check() != nil)
		})
	}
}

// environment is a test's own Azure, database and replicas.
type environment struct {
	*localservice.Cluster
	t       testing.TB
	azure   *localazure.Services
	client  *http.Client
	roots   *x509.CertPool        // with the replicas' certificate
	replica *localservice.Replica // the first
}

const ordersAPI = "api://orders"

// eventually is when a test gives up waiting for what must come: no machine is as slow.
const eventually = time.Minute

// setup starts a replica whose database tokens live for an hour, and whose hashes are cheap.
func setup(t testing.TB, change ...func(*service.Config)) *environment {
	return setupWith(t, nil, change...)
}

func setupWith(t testing.TB, configure func(*pgxpool.Config), change ...func(*service.Config)) *environment {
	log := slog.New(slog.NewJSONHandler(&everyLog, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return setupLogging(t, log, configure, change...)
}

func setupLogging(t testing.TB, log *slog.Logger, configure func(*pgxpool.Config),
	change ...func(*service.Config)) *environment {
	ctx := context.Background()
	azure, err := localazure.On(postgres, "tokenservice", time.Hour, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, azure.Stop()) })

	config := service.DefaultConfig()
	config.Argon2id = secret.Argon2id{MemoryKiB: 64, Iterations: 1, Parallelism: 1}
	config.OAuth.Audiences = []string{"api://tokenservice", ordersAPI}
	config.OAuth.Throttle.PerAddress = 1000 // all tests come from one
	// No limit ends what a test waits for, however slow the machine is. A test that wants a limit reached sets it.
	config.HeaderTimeout, config.OAuth.BodyTimeout = eventually, eventually
	config.RequestTimeout, config.ShutdownTimeout = eventually, eventually
	config.OAuth.RefreshTokens.Grace = eventually
	config.MaintenanceInterval = time.Hour // tests maintain themselves: else it would take connections at any time
	for _, change := range change {
		change(&config)
	}
	cluster, err := localservice.New(ctx, azure, config, log)
	require.NoError(t, err)
	cluster.ConnectTimeout = eventually
	e := &environment{Cluster: cluster, t: t, azure: azure, client: cluster.Client()}
	e.roots = x509.NewCertPool()
	require.True(t, e.roots.AppendCertsFromPEM(e.CertificatePEM))
	e.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(e.client.CloseIdleConnections)
	e.replica = e.start(configure)
	return e
}

func (e *environment) start(configure func(*pgxpool.Config)) *localservice.Replica {
	replica, err := e.StartReplica(context.Background(), configure)
	require.NoError(e.t, err)
	e.t.Cleanup(func() {
		e.client.CloseIdleConnections()
		assert.NoError(e.t, replica.Stop())
	})
	return replica
}

func (e *environment) store() *store.Store { return store.New(e.replica.Pool) }

func (e *environment) register(name string, permissions ...string) localservice.Registration {
	r, err := e.Register(context.Background(), e.replica.Pool, name, permissions...)
	require.NoError(e.t, err)
	everyLog.mustNotHold(r.Secret.Reveal())
	return r
}

// answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   []byte

	Error        string `json:"error"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	Scope        string `json:"scope"`
	ExpiresIn    int    `json:"expires_in"`
}

// send makes a request, whatever comes of it. It may be called from any goroutine.
func (e *environment) send(r *http.Request) (answer, error) {
	response, err := e.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		return answer{}, err
	}
	_ = json.Unmarshal(a.body, &a) // those that are not JSON have no such fields
	for _, token := range []string{a.AccessToken, a.RefreshToken} {
		if token != "" {
			everyLog.mustNotHold(token)
		}
	}
	return a, nil
}

func (e *environment) do(r *http.Request) answer {
	e.t.Helper()
	a, err := e.send(r)
	require.NoError(e.t, err)
	return a
}

func newRequest(method, address, contentType, body string) *http.Request {
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

const form = "application/x-www-form-urlencoded"

func tokenURL(replica *localservice.Replica) string {
	return replica.URL + "/tokenservice/oauth2/v2.0/token"
}

// tokenRequest is a request with HTTP Basic. parameters are alternating names and values.
func tokenRequest(replica *localservice.Replica, as localservice.Registration, parameters ...string) *http.Request {
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Set(parameters[i], parameters[i+1])
	}
	r := newRequest(http.MethodPost, tokenURL(replica), form, values.Encode())
	r.SetBasicAuth(as.ClientID.String(), as.Secret.Reveal())
	return r
}

// logIn gets tokens by client_credentials.
func (e *environment) logIn(as localservice.Registration, parameters ...string) answer {
	e.t.Helper()
	a := e.do(tokenRequest(e.replica, as, append([]string{"grant_type", "client_credentials"}, parameters...)...))
	require.Equal(e.t, http.StatusOK, a.status, "%s", a.body)
	return a
}

func (e *environment) refresh(replica *localservice.Replica, as localservice.Registration, token string,
	parameters ...string) answer {
	e.t.Helper()
	return e.do(tokenRequest(replica, as, append([]string{"grant_type", "refresh_token", "refresh_token", token},
		parameters...)...))
}

// call makes a request to the API with an access token.
func (e *environment) call(replica *localservice.Replica, token, method, path, body string) answer {
	e.t.Helper()
	contentType := ""
	if body != "" {
		contentType = "application/json"
	}
	r := newRequest(method, replica.URL+path, contentType, body)
	r.Header.Set("Authorization", "Bearer "+token)
	return e.do(r)
}

// events are the names of what was audited, oldest first.
func (e *environment) events() []string {
	e.t.Helper()
	records, err := e.store().AuditLog(context.Background(), 1000)
	require.NoError(e.t, err)
	var events []string
	for i := len(records) - 1; i >= 0; i-- {
		events = append(events, strings.TrimSpace(string(records[i].Event)+" "+records[i].Detail))
	}
	return events
}
