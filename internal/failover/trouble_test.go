package failover

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
)

func TestTheFirstTroubleOfAProcessCounts(t *testing.T) {
	before := moment.Swap(0)
	defer func() { moment.Store(before + 1) }()
	var trouble Trouble
	assert.False(t, trouble.IsNoted())
	watch := trouble.Watch(nil, func(*pgconn.PgConn) bool { return false })
	assert.True(t, watch(nil, &pgconn.PgError{Code: "42601"}))
	assert.False(t, trouble.IsNoted(), "a syntax error")
	assert.True(t, watch(nil, &pgconn.PgError{Code: "57P01"}))
	assert.True(t, trouble.IsNoted(), "the server ended the session")
	assert.Equal(t, Now(), trouble.At())
}
