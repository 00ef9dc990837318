package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRecoveryIsTheFirstConnectThatIsUpAfterTheOutage(t *testing.T) {
	const s = time.Second
	o := outage{From: 3 * s, For: 7 * s}
	for _, row := range []struct {
		name     string
		attempts []attempt
		want     time.Duration
	}{
		{"begun after it", []attempt{{At: 11 * s, Took: s}, {At: 12 * s, Took: s}}, 2 * s},
		{"begun in it", []attempt{{At: 8 * s, Took: 3 * s}}, s},
		{"those that failed do not count", []attempt{{At: 11 * s, Took: s, Failed: true}, {At: 14 * s, Took: s}}, 5 * s},
		{"nor those that were up before its end", []attempt{{At: 8 * s, Took: s}, {At: 14 * s, Took: s}}, 5 * s},
		{"the first to begin need not be the first to be up", []attempt{{At: 9 * s, Took: 9 * s}, {At: 14 * s, Took: s}},
			5 * s},
		{"none", []attempt{{At: 11 * s, Took: s, Failed: true}}, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, outageResult{outage: o, attempts: row.attempts}.recovery())
		})
	}
}

func TestConnectsAreCounted(t *testing.T) {
	r := outageResult{attempts: []attempt{{At: 1}, {At: 2, Failed: true}, {At: 3, Took: 6 * time.Second},
		{At: 3, Took: 6 * time.Second, Failed: true}, {At: 4}}}
	during := r.during(2, 4)
	assert.Equal(t, r.attempts[1:4], during, "by their beginning")
	failed, late := count(during)
	assert.Equal(t, 2, failed)
	assert.Equal(t, 2, late)
	assert.Equal(t, 3, useless(during), "none twice")
}

func TestWhatTheChildPrintsIsRead(t *testing.T) {
	var r outageResult
	require.NoError(t,
		r.read(bytes.NewBufferString(`{"Attempt":{"At":5,"Hook":1,"Took":2,"Failed":true}}`+"\n"+`{"Requests":7}`+"\n")))
	assert.Equal(t, []attempt{{At: 5, Hook: 1, Took: 2, Failed: true}}, r.attempts)
	assert.Equal(t, 7, r.requests)
	require.Error(t, r.read(bytes.NewBufferString("panic: no\n")))
}
