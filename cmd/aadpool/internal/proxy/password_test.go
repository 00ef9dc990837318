package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPasswordFiles(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a password", "correct horse\n", ""},
		{"without a line break", "correct horse", ""},
		{"of Windows", "correct horse\r\n", ""},
		{"in another script", "пароль\n", ""},
		{"of PowerShell's >", "\xff\xfeh\x00o\x00r\x00s\x00e\x00\r\x00\n\x00", "begins with a byte order mark"},
		{"of PowerShell's Set-Content -Encoding utf8", "\xef\xbb\xbfcorrect horse\r\n", "begins with a byte order mark"},
		{"nothing", "\n", "is empty"},
		{"two lines", "correct\nhorse\n", "more than one line"},
		{"a verifier that is cut short", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk\n", "begins like a SCRAM verifier"},
		{"a verifier without iterations", "SCRAM-SHA-256$x:c2FsdA==$c3RvcmVk:c2VydmVy\n", "begins like a SCRAM verifier"},
		{"a verifier that is no base64", "SCRAM-SHA-256$4096:!$!:!\n", "begins like a SCRAM verifier"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "password")
			require.NoError(t, os.WriteFile(path, []byte(row.text), 0o600))
			password, err := ReadPassword(path)
			if row.want != "" {
				require.ErrorContains(t, err, row.want)
				assert.NotContains(t, err.Error(), "horse", "the error repeats nothing of it")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "[redacted] [redacted]", fmt.Sprintf("%v %#v", password, password))
		})
	}
	_, err := ReadPassword(filepath.Join(t.TempDir(), "nowhere"))
	assert.ErrorContains(t, err, "reading the password file")
}

// PostgreSQL's own verifier serves as well as the password.
func TestPostgresVerifierLetsIn(t *testing.T) {
	a := newAzure(t)
	require.NoError(t, a.EnsureRole(t.Context(), "with-a-password"))
	server := connectTo(t, a.Postgres.DSN())
	_, err := server.Exec(t.Context(),
		`set password_encryption = 'scram-sha-256'; alter role "with-a-password" password 'correct horse'`)
	require.NoError(t, err)
	verifier := ask[string](t, server, "select rolpassword from pg_authid where rolname = 'with-a-password'")

	config := a.config(t, a.credential(t))
	config.Password = testPassword(t, verifier)
	p, _ := startProxy(t, config)
	assert.Equal(t, "orders-api", ask[string](t, connectTo(t, p.socketDSN()+" password='correct horse'"),
		"select session_user"))
	_, err = pgx.Connect(t.Context(), p.socketDSN()+" password='correct mule'")
	assert.Equal(t, "28P01", refusedBy(t, err).Code)
	_, err = pgx.Connect(t.Context(), p.socketDSN())
	assert.Error(t, err, "without a password")
}
