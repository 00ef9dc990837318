package token

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestMarginsByTheLifeLeft(t *testing.T) {
	for _, row := range []struct {
		name                string
		left, renewal, last time.Duration
	}{
		{"a day", 24 * time.Hour, 5 * time.Minute, 30 * time.Second},
		{"75 minutes", 75 * time.Minute, 5 * time.Minute, 30 * time.Second},
		{"as long as five margins", 25 * time.Minute, 5 * time.Minute, 30 * time.Second},
		{"ten minutes", 10 * time.Minute, 2 * time.Minute, 12 * time.Second},
		{"four minutes", 4 * time.Minute, 48 * time.Second, 4800 * time.Millisecond},
		{"none", 0, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.renewal, RenewalMargin(row.left))
			assert.Equal(t, row.last, LastMargin(row.left))
		})
	}
}

func TestRenewAt(t *testing.T) {
	const left = time.Hour
	now := time.Now()
	expires := now.Add(left)
	for _, row := range []struct {
		name      string
		refreshOn time.Time
		want      time.Time
	}{
		{"without advice", time.Time{}, expires.Add(-5 * time.Minute)},
		{"advice that is sooner", now.Add(30 * time.Minute), now.Add(30 * time.Minute)},
		{"advice that is later", expires.Add(-time.Minute), expires.Add(-5 * time.Minute)},
		{"advice that has passed", now.Add(-time.Minute), now.Add(-time.Minute)},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, RenewAt(expires, row.refreshOn, left))
		})
	}
}
