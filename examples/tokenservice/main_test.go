package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/internal/leaktest"
)

// postgres is the one server of all tests. Each has a database of its own on it.
var postgres *aadpooltest.Postgres

func TestMain(m *testing.M) {
	var err error
	if postgres, err = aadpooltest.StartPostgres(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := errors.Join(postgres.Stop(), leaktest.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestCredential(t *testing.T) {
	for _, row := range []struct {
		name        string
		kind        string
		environment map[string]string
		want        any
		missing     []string
	}{
		{"nothing set", "default", nil, &azidentity.DefaultAzureCredential{}, nil},
		{"a managed identity's client id", "default", map[string]string{"AZURE_CLIENT_ID": "id"},
			&azidentity.DefaultAzureCredential{}, nil},
		{"all three", "default", map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "id",
			"AZURE_CLIENT_SECRET": "hush"}, &azidentity.ClientSecretCredential{}, nil},
		{"all three, asked for", "client-secret", map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "id",
			"AZURE_CLIENT_SECRET": "hush"}, &azidentity.ClientSecretCredential{}, nil},
		{"a secret alone", "default", map[string]string{"AZURE_CLIENT_SECRET": "hush"}, nil,
			[]string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID"}},
		{"no tenant", "default", map[string]string{"AZURE_CLIENT_ID": "id", "AZURE_CLIENT_SECRET": "hush"}, nil,
			[]string{"AZURE_TENANT_ID"}},
		{"no secret, asked for", "client-secret", map[string]string{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "id"}, nil,
			[]string{"AZURE_CLIENT_SECRET"}},
		{"none, asked for", "client-secret", nil, nil, []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			cred, err := credential(row.kind, func(name string) string { return row.environment[name] })
			if row.want != nil {
				require.NoError(t, err)
				assert.IsType(t, row.want, cred)
				return
			}
			require.Error(t, err)
			assert.Equal(t, strings.Join(row.missing, " and "),
				regexp.MustCompile(`AZURE_\w+( and AZURE_\w+)*`).FindString(err.Error()))
			assert.NotContains(t, err.Error(), "hush")
		})
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	t.Setenv("TOKENSERVICE_KEY_ENCRYPTION_KEY", "")
	for _, row := range []struct{ name, args, want string }{
		{"the database", "migrate", "DATABASE_URL"},
		{"the public URL", "serve", "--public-url"},
		{"the key-encryption key", "serve --public-url https://localhost", "TOKENSERVICE_KEY_ENCRYPTION_KEY"},
		{"the name", "principal create", "--name"},
		{"the command", "", "serve"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := run(context.Background(), strings.Fields(row.args), logIn, io.Discard, io.Discard)
			assert.ErrorContains(t, err, row.want)
		})
	}
	t.Run("a password in the URL is not repeated", func(t *testing.T) {
		err := run(context.Background(), []string{"migrate", "--database-url", "postgres://role:hush@[/tokens"}, logIn,
			io.Discard, io.Discard)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "hush")
	})
}

// One command after the other, on a real database that they log in to with access tokens.
func TestCommands(t *testing.T) {
	ctx := context.Background()
	azure, err := localazure.On(postgres, "tokenservice", time.Hour, 0)
	require.NoError(t, err)
	defer func() { assert.NoError(t, azure.Stop()) }()
	cluster, err := localservice.New(ctx, azure, service.DefaultConfig(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	dsn, err := cluster.DSN(azure.App.Name)
	require.NoError(t, err)
	t.Setenv("DATABASE_URL", dsn)
	key := make([]byte, 32)
	rand.Read(key)
	t.Setenv("TOKENSERVICE_KEY_ENCRYPTION_KEY", base64.StdEncoding.EncodeToString(key))

	connect := func(ctx context.Context, d database, _ *slog.Logger) (*pgxpool.Pool, error) {
		cred, err := azure.Credential()
		if err != nil {
			return nil, err
		}
		return aadpool.New(ctx, d.URL, cred)
	}
	command := func(t *testing.T, line string) string {
		var out strings.Builder
		require.NoError(t, run(ctx, strings.Fields(line), connect, &out, io.Discard), line)
		return out.String()
	}
	shown := regexp.MustCompile(`client_id: +(\S+)\nclient_secret: +(tss_\S{56})\n`)

	assert.Equal(t, "0 migrations applied\n", command(t, "migrate"))
	created := shown.FindStringSubmatch(command(t,
		"principal create --name orders --permission orders:read --permission orders:write"))
	require.NotNil(t, created)
	id, secret := created[1], created[2]
	assert.Regexp(t, `orders +`+id+` +active +1 +orders:read orders:write`, command(t, "principal list"))
	assert.NotContains(t, command(t, "principal list --json"), secret)

	rotated := shown.FindStringSubmatch(command(t, "principal rotate-secret orders"))
	require.NotNil(t, rotated)
	assert.NotEqual(t, secret, rotated[2])
	command(t, "principal revoke orders orders:write")
	command(t, "principal grant "+id+" billing:read")
	assert.Regexp(t, `active +2 +billing:read orders:read`, command(t, "principal list"))

	serving, stop := context.WithCancel(ctx)
	defer stop()
	certificate := filepath.Join(t.TempDir(), "certificate.pem")
	stderr, logged := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(serving, []string{"serve", "--migrate", "--listen", "127.0.0.1:0", "--public-url", "https://localhost",
			"--tls-cert-out", certificate},
			connect, io.Discard, logged)
		logged.Close()
	}()
	address, before := servingAddress(t, stderr)
	assert.Contains(t, before, "for trying out only: the service's database role owns the audit log")
	client := clientThatTrusts(t, certificate)
	defer client.CloseIdleConnections()
	for name, secret := range map[string]string{"the first secret": secret, "the second": rotated[2]} {
		assert.Equal(t, 200, logInToTokenService(t, client, address, id, secret), name)
	}
	client.CloseIdleConnections()
	stop()
	require.NoError(t, <-ended)
	refused, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = run(refused, []string{"serve", "--listen", "127.0.0.1:0", "--public-url", "https://localhost"}, connect,
		io.Discard, io.Discard)
	assert.ErrorContains(t, err, `"tokenservice" owns the audit log`)

	assert.Contains(t, command(t, "key rotate"), "the new key signs from")
	command(t, "principal disable orders")
	assert.Regexp(t, `orders +`+id+` +disabled`, command(t, "principal list"))
	command(t, "principal delete orders")
	assert.NotContains(t, command(t, "principal list"), "orders")
	log := command(t, "audit")
	for _, event := range []string{"principal.created", "principal.secret_rotated", "principal.permission_granted",
		"login.succeeded", "key.created", "principal.deleted"} {
		assert.Contains(t, log, event)
	}
	assert.Contains(t, log, "by tokenservice")
	assert.NotContains(t, log, secret)

	for _, line := range []string{"principal disable nobody", "principal grant " + id + " orders:read",
		"principal create --name x --permission everything"} {
		assert.Error(t, run(ctx, strings.Fields(line), connect, io.Discard, io.Discard), line)
	}
}

// The service's own role, as on Azure: it serves, and can add to the audit log but not change it.
func TestServeAsARoleThatOwnsNothing(t *testing.T) {
	ctx := context.Background()
	azure, err := localazure.On(postgres, "tokens-deploy", time.Hour, 0)
	require.NoError(t, err)
	defer func() { assert.NoError(t, azure.Stop()) }()
	cluster, err := localservice.New(ctx, azure, service.DefaultConfig(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	runtime := azure.Authority.Register(aadpooltest.Principal{Name: "id-tokenservice"})
	member := azure.Authority.Register(aadpooltest.Principal{Name: "member"})
	for _, role := range []string{runtime.Name, member.Name} {
		require.NoError(t, azure.Postgres.EnsureRole(ctx, role))
	}
	connectAs := func(app aadpooltest.Principal) connect { return connectAs(azure, cluster, app) }
	t.Setenv("DATABASE_URL", "postgres://localhost")
	t.Setenv("TOKENSERVICE_KEY_ENCRYPTION_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	serve := []string{"serve", "--listen", "127.0.0.1:0", "--public-url", "https://localhost"}

	require.NoError(t, run(ctx, []string{"migrate", "--grant-to", runtime.Name}, connectAs(azure.App), io.Discard,
		io.Discard))
	admin, err := pgx.Connect(ctx, azure.Postgres.DSN())
	require.NoError(t, err)
	_, err = admin.Exec(ctx, `grant "tokens-deploy" to member`)
	require.NoError(t, err)
	require.NoError(t, admin.Close(ctx))
	refused, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	assert.ErrorContains(t, run(refused, serve, connectAs(member), io.Discard, io.Discard), `"member" owns the audit log`,
		"it may take on the owner's role")

	serving, stop := context.WithCancel(ctx)
	defer stop()
	stderr, logged := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(serving, serve, connectAs(runtime), io.Discard, logged)
		logged.Close()
	}()
	_, before := servingAddress(t, stderr)
	assert.NotContains(t, before, "audit log")
	stop()
	require.NoError(t, <-ended)
}

// logInToTokenService returns the status of a login. It asks again, for a minute at most, while the service says that
// this takes longer than a request may: the hash is the real one, and tests may share their cores.
func logInToTokenService(t *testing.T, client *http.Client, address, id, secret string) int {
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		response, err := client.PostForm("https://"+address+"/tokenservice/oauth2/v2.0/token",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}})
		require.NoError(t, err)
		response.Body.Close()
		late := response.StatusCode == http.StatusRequestTimeout ||
			response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != ""
		if !late || time.Since(began) > time.Minute {
			return response.StatusCode
		}
	}
}

// connectAs connects to the cluster's database as another principal than the one that owns it.
func connectAs(azure *localazure.Services, cluster *localservice.Cluster, app aadpooltest.Principal) connect {
	return func(ctx context.Context, _ database, _ *slog.Logger) (*pgxpool.Pool, error) {
		as := *azure
		as.App = app
		cred, err := as.Credential()
		if err != nil {
			return nil, err
		}
		dsn, err := cluster.DSN(app.Name)
		if err != nil {
			return nil, err
		}
		return aadpool.New(ctx, dsn, cred)
	}
}

// servingAddress reads the log until the service says where it serves, and goes on reading. It returns what came
// before, too.
func servingAddress(t *testing.T, log io.Reader) (address, before string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var record struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &record) == nil && record.Msg == "serving" {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return record.Address, before
		}
		before += lines.Text() + "\n"
	}
	require.FailNow(t, "it does not serve", "%v\n%s", lines.Err(), before)
	return "", ""
}

func clientThatTrusts(t *testing.T, certificate string) *http.Client {
	pem, err := os.ReadFile(certificate)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}
