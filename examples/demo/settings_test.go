package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBadArguments(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"a flag that there is not", []string{"-speed", "9"}, "demo: flag provided but not defined: -speed; try -h\n"},
		{"no flag at all", []string{"fast"}, "demo: \"fast\" is no flag; try -h\n"},
		{"a duration without a unit", []string{"-duration", "90"},
			"demo: invalid value \"90\" for flag -duration: parse error; try -h\n"},
		{"no time", []string{"-duration", "0s"}, "demo: -duration 0s: must be more than 0\n"},
		{"nobody to work", []string{"-workers", "0"}, "demo: -workers 0: must be from 1 to 150\n"},
		{"more workers than the server allows connections", []string{"-workers", "151"},
			"demo: -workers 151: must be from 1 to 150\n"},
		{"tokens that end before there could be another", []string{"-token-life", "3s"},
			"demo: -token-life 3s: must be whole seconds, 4s or more\n"},
		{"a fraction, which a token's exp cannot say", []string{"-token-life", "5500ms"},
			"demo: -token-life 5.5s: must be whole seconds, 4s or more\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, run(t.Context(), row.args, &stdout, &stderr))
			assert.Equal(t, row.want, stderr.String())
			assert.Empty(t, stdout.String())
		})
	}
}

func TestHelpIsNoFailure(t *testing.T) {
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 0, run(t.Context(), []string{"-h"}, &stdout, &stderr))
	assert.Contains(t, stdout.String(), "-token-life")
	assert.Empty(t, stderr.String())
}

func TestDefaults(t *testing.T) {
	lives := map[time.Duration]bool{}
	for range 1000 {
		s, err := parseSettings(nil, nil)
		require.NoError(t, err)
		assert.Equal(t, 54*time.Second, s.duration)
		assert.True(t, s.outage)
		assert.Equal(t, 16, s.workers)
		assert.LessOrEqual(t, s.fetchLatency(), maxFetchLatency)
		assert.GreaterOrEqual(t, summary{steady: s.duration, tokenLife: s.tokenLife}.rotationsDue(), 3)
		lives[s.tokenLife] = true
	}
	longest := 54*time.Second + 18*time.Second/2 + 18*time.Second + probedWithin + backWithin + calm
	assert.Less(t, longest, 2*time.Minute, "how long a demo takes at most")
	assert.Len(t, lives, 7)
	for life := range lives {
		assert.True(t, 12*time.Second <= life && life <= 18*time.Second, life)
	}
}
