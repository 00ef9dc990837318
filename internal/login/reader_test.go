package login

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/token"
)

func newLogin(t *testing.T) *login {
	t.Helper()
	made, err := token.New(azcore.AccessToken{Token: strings.Repeat("secret", 30), ExpiresOn: time.Now().Add(time.Hour)},
		time.Now(), 0)
	require.NoError(t, err)
	return &login{token: made, config: &pgconn.Config{}, report: &Report{}}
}

// Whoever takes the connection out of pgx finds what follows with the server, or in pgx's own buffer (see pgconn's
// SyncConn).
func TestReaderTakesNoMoreThanTheMessageAtHand(t *testing.T) {
	l := newLogin(t)
	beyond := strings.Repeat("x", 6000)
	server := strings.NewReader(string(azuretest.Frame('Z', 'I')) + beyond)
	r := &startupReader{server: server, login: l}
	got := make([]byte, 8192)
	n, err := r.Read(got)
	require.NoError(t, err)
	assert.Equal(t, string(azuretest.Frame('Z', 'I')), string(got[:n]))
	assert.Equal(t, len(beyond), server.Len())

	l.token = nil // the connection is up
	n, err = r.Read(got)
	require.NoError(t, err)
	assert.Equal(t, beyond, string(got[:n]), "in one piece, whatever it is")
	assert.Nil(t, r.login, "an idle connection keeps nothing")
}

func TestPartOfAMessageThatWasReadIsPassedOnWhenTheConnectionIsUp(t *testing.T) {
	whole := azuretest.Frame('S', []byte("TimeZone\x00Etc/UTC\x00")...)
	l := newLogin(t)
	r := &startupReader{server: cutOff(whole, 12), login: l}
	got := make([]byte, 100)
	_, err := r.Read(got)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	l.token = nil
	var all []byte
	for len(all) < len(whole) {
		n, err := r.Read(got)
		require.NoError(t, err)
		all = append(all, got[:n]...)
	}
	assert.Equal(t, string(whole), string(all))
}

func TestMessageThatComesInPiecesIsRead(t *testing.T) {
	whole := azuretest.Frame('S', []byte("TimeZone\x00Etc/UTC\x00")...)
	for _, row := range []struct {
		name   string
		server io.Reader
		fails  bool // the first time
	}{
		{"byte by byte", iotest.OneByteReader(strings.NewReader(string(whole))), false},
		{"with a deadline that passes within the header", cutOff(whole, 3), true},
		{"with a deadline that passes within the message", cutOff(whole, 12), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := &startupReader{server: row.server, login: newLogin(t)}
			got := make([]byte, 100)
			if row.fails {
				_, err := r.Read(got)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			n, err := r.Read(got)
			require.NoError(t, err)
			assert.Equal(t, string(whole), string(got[:n]))
		})
	}
}

// cutOff reads as far as at, then fails once, and then reads on.
func cutOff(message []byte, at int) io.Reader {
	return io.MultiReader(strings.NewReader(string(message[:at])), &failsOnce{}, strings.NewReader(string(message[at:])))
}

type failsOnce struct{ failed bool }

func (f *failsOnce) Read([]byte) (int, error) {
	if f.failed {
		return 0, io.EOF
	}
	f.failed = true
	return 0, os.ErrDeadlineExceeded
}

func TestLoginPrintsNoToken(t *testing.T) {
	l := newLogin(t)
	require.True(t, l.token.Filter().IsIn(l.token.Secret()))
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		fmt.Fprintf(&printed, verb, l)
		fmt.Fprintf(&printed, verb, l.token.Filter())
	}
	assert.NotContains(t, printed.String(), "secretsecret")
}
