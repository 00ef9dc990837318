package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// newStandIns serves them with a control, for tests that ask it.
func newStandIns(t *testing.T, flags ...string) *standIns {
	t.Helper()
	t.Setenv(aadpooltest.DatabaseEnv, shared.DSN())
	o, err := parseOptions(append([]string{"-control-port", "0", "-database", newDatabase()}, flags...), io.Discard)
	require.NoError(t, err)
	s, err := start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.stop()) })
	return s
}

// ask returns the status and the body.
func (s *standIns) ask(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.environment["AADPOOLTEST_CONTROL"]+path, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

// logIn is what a service does: a token, and a connection.
func (s *standIns) logIn(t *testing.T) error {
	t.Helper()
	token, err := s.entra.Issue("orders-api")
	require.NoError(t, err)
	config, err := pgx.ParseConfig(s.environment["DATABASE_URL"])
	require.NoError(t, err)
	config.Password = token
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

func TestControl(t *testing.T) {
	s := newStandIns(t)
	status, body := s.ask(t, http.MethodGet, "/healthz")
	assert.Equal(t, http.StatusOK, status, body)
	_, pem := s.ask(t, http.MethodGet, "/ca.pem")
	assert.Equal(t, string(s.entra.CertificatePEM()), pem)
	assert.Equal(t, string(s.server.CertificatePEM()), pem, "one file for both")
	_, body = s.ask(t, http.MethodGet, "/env")
	var environment map[string]string
	require.NoError(t, json.Unmarshal([]byte(body), &environment))
	assert.Equal(t, s.environment, environment)
	_, body = s.ask(t, http.MethodGet, "/env.sh")
	assert.Contains(t, body, "export PGUSER='orders-api'\n")
}

// What testcontainers do: the container's ports are mapped to free ones of the machine, and the certificate is fetched.
func TestControlOfAContainerWhosePortsAreMapped(t *testing.T) {
	s := newStandIns(t, "-host", "localhost")
	mapped, ports := map[string]string{}, url.Values{}
	for name, address := range map[string]string{
		"entra": strings.TrimSuffix(strings.TrimPrefix(s.entra.URL(), "https://"), "/"), "postgres": s.server.Addr(),
	} {
		mapped[name] = forward(t, address)
		_, port, err := net.SplitHostPort(mapped[name])
		require.NoError(t, err)
		ports.Set(name, port)
	}
	status, body := s.ask(t, http.MethodPut, "/ports?"+ports.Encode())
	require.Equal(t, http.StatusNoContent, status, body)
	file := filepath.Join(t.TempDir(), "the ca.pem")
	_, pem := s.ask(t, http.MethodGet, "/ca.pem")
	require.NoError(t, os.WriteFile(file, []byte(pem), 0o600))
	_, body = s.ask(t, http.MethodGet, "/env?ca="+url.QueryEscape(file))
	var environment map[string]string
	require.NoError(t, json.Unmarshal([]byte(body), &environment))
	assert.Equal(t, "https://localhost:"+ports.Get("entra")+"/", environment["AZURE_AUTHORITY_HOST"])
	assert.Equal(t, ports.Get("postgres"), environment["PGPORT"])
	assert.Equal(t, file, environment["PGSSLROOTCERT"])
	for name, value := range environment {
		assert.NotContains(t, value, s.dir, name)
		assert.NotContains(t, value, s.environment["PGSSLROOTCERT"], name)
	}
	for _, name := range []string{"AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"} {
		t.Setenv(name, environment[name])
	}
	token, err := newEnvironmentCredential(t, s).GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}})
	require.NoError(t, err)
	config, err := pgx.ParseConfig(environment["DATABASE_URL"])
	require.NoError(t, err)
	config.Password = token.Token
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, conn.Close(context.Background()))
}

// forward listens on a free port, and passes what comes on to the address.
func forward(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, listener.Close()) })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				server, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer server.Close()
				go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
				_, _ = io.Copy(client, server)
			}()
		}
	}()
	return listener.Addr().String()
}

func TestControlInjectsFaults(t *testing.T) {
	s := newStandIns(t)
	require.NoError(t, s.logIn(t))
	for _, row := range []struct{ path, want string }{
		{"/fault/role-missing", ""}, // the role is there since the first login
		{"/fault/wrong-audience", "audience"},
		{"/fault/server-full", "53300"},
		{"/refusal?sqlstate=57P03&message=" + url.QueryEscape("the database system is starting up"), "starting up"},
	} {
		t.Run(row.path, func(t *testing.T) {
			status, body := s.ask(t, http.MethodPut, row.path)
			require.Equal(t, http.StatusNoContent, status, body)
			if row.want != "" {
				require.ErrorContains(t, s.logIn(t), row.want)
			}
			status, _ = s.ask(t, http.MethodDelete, "/fault")
			require.Equal(t, http.StatusNoContent, status)
			require.NoError(t, s.logIn(t))
		})
	}
	status, _ := s.ask(t, http.MethodPut, "/settings?token-life=1h&token-age=2h")
	require.Equal(t, http.StatusNoContent, status)
	require.ErrorContains(t, s.logIn(t), "expired")
	_, _ = s.ask(t, http.MethodPut, "/settings?token-age=0s")
	require.NoError(t, s.logIn(t))
}

func TestControlRegistersPrincipals(t *testing.T) {
	s := newStandIns(t)
	status, body := s.ask(t, http.MethodPost, "/principals?kind=service&name=billing-api")
	require.Equal(t, http.StatusOK, status, body)
	var p registered
	require.NoError(t, json.Unmarshal([]byte(body), &p))
	assert.NotEmpty(t, p.ClientSecret)
	setenv := s.entra.ClientSecretEnv(aadpooltest.Principal{ClientID: p.ClientID, Secret: p.ClientSecret})
	for name, value := range setenv {
		t.Setenv(name, value)
	}
	token := func() error {
		_, err := newEnvironmentCredential(t, s).GetToken(t.Context(),
			policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}})
		return err
	}
	require.NoError(t, token())
	status, _ = s.ask(t, http.MethodDelete, "/principals/billing-api")
	require.Equal(t, http.StatusNoContent, status)
	require.ErrorContains(t, token(), "AADSTS7000112")
}

func TestControlRefuses(t *testing.T) {
	s := newStandIns(t)
	for _, row := range []struct{ method, path, want string }{
		{http.MethodPut, "/fault/rain", "there is no such fault: the faults are entra-down"},
		{http.MethodPut, "/refusal?message=x", "five characters"},
		{http.MethodPut, "/settings?token-life=soon", "with a unit"},
		{http.MethodPut, "/settings?tokenlife=1s", "want token-life="},
		{http.MethodPut, "/ports?entra=https", "want entra="},
		{http.MethodPut, "/ports?ldap=389", "want entra="},
		{http.MethodPost, "/principals?kind=service", "want kind= and name="},
		{http.MethodPost, "/principals?kind=robot&name=x", "want one of service"},
	} {
		t.Run(row.path, func(t *testing.T) {
			status, body := s.ask(t, row.method, row.path)
			assert.Equal(t, http.StatusBadRequest, status)
			assert.Contains(t, body, row.want)
		})
	}
}

func TestOptionsOfTheEnvironment(t *testing.T) {
	t.Setenv("AADPOOLTEST_TOKEN_LIFE", "7m")
	t.Setenv("AADPOOLTEST_ROLE", "billing-api")
	o, err := parseOptions([]string{"-role", "orders-api"}, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, "7m0s", o.tokenLife.String())
	assert.Equal(t, "orders-api", o.role, "the command line is stronger")
	t.Setenv("AADPOOLTEST_TOKEN_LIFE", "soon")
	_, err = parseOptions(nil, io.Discard)
	require.ErrorContains(t, err, "AADPOOLTEST_TOKEN_LIFE")
}

func TestCertificateAuthorityOfOnesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "missing.pem")
	t.Setenv(aadpooltest.DatabaseEnv, shared.DSN())
	o, err := parseOptions([]string{"-ca-certificate", file, "-ca-key", file}, io.Discard)
	require.NoError(t, err)
	_, err = start(t.Context(), o)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// newEnvironmentCredential is azidentity's, which finds Entra by the environment.
func newEnvironmentCredential(t *testing.T, s *standIns) *azidentity.EnvironmentCredential {
	t.Helper()
	options := s.entra.ClientOptions()
	options.Retry.MaxRetries = -1
	made, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true})
	require.NoError(t, err)
	return made
}

func TestThePageHasTheFaultsAndVariables(t *testing.T) {
	page, err := os.ReadFile("../../docs/standins.md")
	require.NoError(t, err)
	for _, f := range faults {
		assert.Contains(t, string(page), "\n| `"+f.name+"` |")
	}
	for _, name := range regexp.MustCompile(`AADPOOLTEST_[A-Z_]+`).FindAllString(string(page), -1) {
		t.Setenv(name, "no value of any flag's")
		_, err := parseOptions(nil, io.Discard)
		if err == nil { // a flag that takes any text
			t.Setenv(name, "")
			flag := "-" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, environmentPrefix), "_", "-"))
			_, err = parseOptions([]string{flag, "text"}, io.Discard)
			require.NoError(t, err, name)
		}
		require.NoError(t, os.Unsetenv(name))
	}
}
