package login

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/token"
)

// startUp is what a PostgreSQL 18 says to a login.
func startUp() []byte {
	messages := [][]byte{azuretest.Frame('R', 0, 0, 0, 3), azuretest.Frame('R', 0, 0, 0, 0)}
	for _, parameter := range []string{
		"in_hot_standby\x00off", "integer_datetimes\x00on", "TimeZone\x00Etc/UTC", "IntervalStyle\x00postgres",
		"search_path\x00\"$user\", public", "is_superuser\x00off", "application_name\x00orders-api",
		"default_transaction_read_only\x00off", "scram_iterations\x004096", "DateStyle\x00ISO, MDY",
		"standard_conforming_strings\x00on", "session_authorization\x00orders-api", "client_encoding\x00UTF8",
		"server_version\x0018.4 (Debian 18.4-1.pgdg120+1)", "server_encoding\x00UTF8",
	} {
		messages = append(messages, azuretest.Frame('S', []byte(parameter+"\x00")...))
	}
	return slices.Concat(append(messages, azuretest.Frame('K', 0, 0, 0, 1, 0, 0, 0, 2), azuretest.Frame('Z', 'I'))...)
}

// BenchmarkStartUp is what the filter of a server's words costs a login, with a managed identity's token.
func BenchmarkStartUp(b *testing.B) {
	made, err := token.New(azcore.AccessToken{Token: strings.Repeat("eyJhbGciOiJSUzI1NiJ9", 95),
		ExpiresOn: time.Now().Add(time.Hour)}, time.Now(), 0)
	require.NoError(b, err)
	script := startUp()
	got := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r := &startupReader{server: bytes.NewReader(script),
			login: &login{token: made, config: &pgconn.Config{}, report: &Report{}}}
		for {
			if _, err := r.Read(got); err == io.EOF {
				break
			}
		}
	}
}
