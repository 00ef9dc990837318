package dsn

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

func TestCheckAuth(t *testing.T) {
	for _, row := range []struct {
		name   string
		config pgconn.Config
		want   string // empty: no error
	}{
		{"nothing said", pgconn.Config{}, ""},
		{"channel binding, where there is one", pgconn.Config{ChannelBinding: "prefer"}, ""},
		{"channel binding in any case", pgconn.Config{ChannelBinding: "require"},
			"channel_binding=require (or PGCHANNELBINDING) cannot be met"},
		{"a password", pgconn.Config{RequireAuth: "password"}, ""},
		{"OAuth", pgconn.Config{RequireAuth: "oauth"}, ""},
		{"one of several", pgconn.Config{RequireAuth: "scram-sha-256, password"}, ""},
		{"neither", pgconn.Config{RequireAuth: "scram-sha-256,md5"},
			"require_auth=scram-sha-256,md5 (or PGREQUIREAUTH) cannot be met"},
		{"no password", pgconn.Config{RequireAuth: "!password"}, ""},
		{"no password, no OAuth", pgconn.Config{RequireAuth: "!password,!oauth"}, "require_auth=!password,!oauth"},
		{"no other", pgconn.Config{RequireAuth: "!md5,!none"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := checkAuth(&row.config)
			if row.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, row.want)
				assert.ErrorIs(t, err, ErrAuth)
			}
		})
	}
}
