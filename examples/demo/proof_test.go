package main

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStatementsAreCheckedAgainstTheTokenThatWasSent(t *testing.T) {
	ends := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": ends.Unix()}).SignedString([]byte("key"))
	require.NoError(t, err)
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	conn, err := rememberToken(t.Context(), nil, client)
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, server) }()
	password, err := (&pgproto3.PasswordMessage{Password: token}).Encode(nil)
	require.NoError(t, err)
	_, err = conn.Write(password)
	require.NoError(t, err)

	for _, row := range []struct {
		name string
		conn net.Conn
		now  time.Time
		late int64
	}{
		{"before the token's end", conn, ends.Add(-time.Millisecond), 0},
		{"at its end", conn, ends, 1},
		{"after it", conn, ends.Add(time.Hour), 1},
		{"a token that is not known proves nothing", client, ends.Add(-time.Hour), 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var p proof
			p.check(row.conn, row.now)
			assert.EqualValues(t, 1, p.statements.Load())
			assert.Equal(t, row.late, p.late.Load())
		})
	}
}

func TestTokenEnd(t *testing.T) {
	endless, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "a"}).SignedString([]byte("key"))
	require.NoError(t, err)
	for _, row := range []struct{ name, token, want string }{
		{"no token", "", "demo: reading the access token of a connection"},
		{"a token without an end", endless, "demo: the access token of a connection has no exp"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := tokenEnd(row.token)
			assert.ErrorContains(t, err, row.want)
		})
	}
}
