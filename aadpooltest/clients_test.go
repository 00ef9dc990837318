package aadpooltest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clientsEnv makes TestClientsOfOtherLanguages run: it needs what most machines have not.
const clientsEnv = "AADPOOL_CLIENTS"

// The stand-ins serve what people use in other languages, unaided but for the environment that serve sets. What is
// needed on Debian: python3-django, python3-psycopg2, python3-azure, nodejs, npm (and its registry),
// default-jdk-headless and libpostgresql-jdbc-java.
func TestClientsOfOtherLanguages(t *testing.T) {
	if os.Getenv(clientsEnv) == "" {
		t.Skip("set " + clientsEnv + "=1 to run clients in Python, Node and Java, which have to be installed")
	}
	serve := filepath.Join(t.TempDir(), "serve")
	runIn(t, "serve", "go", "build", "-o", serve, ".")
	clients, err := filepath.Abs("testdata/clients")
	require.NoError(t, err)
	python := func(program string) []string {
		return []string{pythonWith(t), "-B", filepath.Join(clients, "python", program)}
	}
	node := nodePrograms(t, filepath.Join(clients, "node"))
	java := []string{"sh", "-ec", `rm -f "$0/entra.p12"
		keytool -importcert -noprompt -alias entra -file "$SSL_CERT_FILE" -keystore "$0/entra.p12" \
			-storetype PKCS12 -storepass changeit >"$0/keytool.log" 2>&1
		exec java -Djavax.net.ssl.trustStore="$0/entra.p12" -Djavax.net.ssl.trustStorePassword=changeit \
			-cp /usr/share/java/postgresql.jar "$1"`, t.TempDir(), filepath.Join(clients, "java", "Client.java")}

	for _, row := range []struct {
		name   string
		client []string
		flags  []string
		fails  bool
		want   string
	}{
		{"azure-identity for Python, psycopg2", python("psycopg2_client.py"), nil, false, "orders-api\n"},
		{"azure-identity for Python, Django", python("django_client.py"), nil, false, "orders-api\n"},
		{"azure-identity for JavaScript, node-postgres", node("identity_client.js"), nil, false, "orders-api\n"},
		{"MSAL for Node, node-postgres", node("msal_client.js"), nil, false, "orders-api\n"},
		{"the JDK and pgjdbc", java, nil, false, "orders-api\n"},
		{"Python, the token has ended", python("psycopg2_client.py"), []string{"-token-age", "2h"}, true,
			"The access token has expired"},
		{"Python, no role", python("psycopg2_client.py"), []string{"-fault", "role-missing"}, true,
			"password authentication failed"},
		{"Django, no role", python("django_client.py"), []string{"-fault", "role-missing"}, true,
			"password authentication failed"},
		{"Node, another cloud's server", node("identity_client.js"), []string{"-fault", "wrong-audience"}, true,
			"valid audience claim"},
		{"Java, the server is full", java, []string{"-fault", "server-full"}, true, "too many clients"},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append(append(append([]string{}, row.flags...), "--"), row.client...)
			out, err := exec.Command(serve, args...).CombinedOutput()
			assert.Equal(t, row.fails, err != nil, "%v", err)
			assert.Contains(t, string(out), row.want)
		})
	}
}

func runIn(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// pythonWith returns a Python that has the libraries: Debian's own, or the one on PATH.
func pythonWith(t *testing.T) string {
	t.Helper()
	var last []byte
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.Command(python, "-c", "import azure.identity, django, psycopg2").CombinedOutput()
		if err == nil {
			return python
		}
		last = append(out, fmt.Sprintf("%s: %v\n", python, err)...)
	}
	require.FailNow(t, "no Python has the libraries: apt-get install python3-django python3-psycopg2 python3-azure",
		string(last))
	return ""
}

// nodePrograms installs what the programs in dir need, beside copies of them, and returns how to run one.
func nodePrograms(t *testing.T, dir string) func(program string) []string {
	t.Helper()
	work := t.TempDir()
	require.NoError(t, os.CopyFS(work, os.DirFS(dir)))
	runIn(t, work, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
	return func(program string) []string { return []string{"node", filepath.Join(work, program)} }
}
