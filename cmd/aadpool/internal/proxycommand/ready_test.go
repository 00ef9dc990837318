package proxycommand

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
)

func TestProxySaysHowToConnect(t *testing.T) {
	for _, row := range []struct {
		name      string
		set       map[string]string
		psql, url string
	}{
		{"by a Unix socket", map[string]string{"PGHOST": "/tmp/aadpool-0", "PGPORT": "5432", "PGUSER": "orders-api",
			"PGDATABASE": "orders", "PGSSLMODE": "disable"},
			"psql 'host=/tmp/aadpool-0 user=orders-api dbname=orders'",
			"postgresql://orders-api@/orders?host=%2Ftmp%2Faadpool-0"},
		{"by TCP, on another port, over TLS", map[string]string{"PGHOST": "127.0.0.1", "PGPORT": "6543",
			"PGUSER": "ada@contoso.com", "PGDATABASE": "orders", "PGSSLMODE": "require"},
			"psql 'host=127.0.0.1 port=6543 user=ada@contoso.com dbname=orders sslmode=require'",
			"postgresql://ada%40contoso.com@127.0.0.1:6543/orders?sslmode=require"},
		{"the role is the client's", map[string]string{"PGHOST": "/tmp/a", "PGPORT": "5432", "PGDATABASE": "orders",
			"PGSSLMODE": "disable"}, "psql 'host=/tmp/a dbname=orders'", "postgresql:///orders?host=%2Ftmp%2Fa"},
		{"a name with a space and a quote", map[string]string{"PGHOST": "/tmp/a", "PGPORT": "5432", "PGUSER": "Ada's group",
			"PGDATABASE": "orders", "PGSSLMODE": "disable"}, `psql 'host=/tmp/a user='\''Ada\'\''s group'\'' dbname=orders'`,
			"postgresql://Ada%27s%20group@/orders?host=%2Ftmp%2Fa"},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.set["DATABASE_URL"] = child.DatabaseURL(row.set)
			var screen, log bytes.Buffer
			logger := slog.New(slog.NewTextHandler(&log, nil))
			tellHowToConnect(&screen, logger, row.set)
			assert.Equal(t, "To connect, from another terminal:\n  "+row.psql+"\n  "+row.url+"\n", screen.String())
			assert.Empty(t, log.String(), "a person reads one of them")
			tellHowToConnect(nil, logger, row.set)
			assert.Contains(t, log.String(), `msg="to connect" psql=`)
		})
	}
}
