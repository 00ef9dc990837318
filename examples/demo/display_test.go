package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool"
)

func TestLinesFitIn80Columns(t *testing.T) {
	for _, row := range []struct {
		name string
		line second
		want string
	}{
		{"an ordinary second",
			second{elapsed: 65 * time.Second, tally: tally{queries: 52_000, p50: 230 * time.Microsecond,
				p99: 12345 * time.Microsecond},
				conns: 16, tokenAge: 1250 * time.Millisecond, tokens: 3, retired: 32},
			"   1:05    52000       0     0.2    12.3    16      1.2s      3       32     0"},
		{"the largest of everything",
			second{elapsed: 999 * time.Minute, tally: tally{queries: 99_999_999, failed: 999_999, p50: 9999 * time.Millisecond,
				p99: 9999 * time.Millisecond},
				conns: 150, tokenAge: 86400 * time.Second, tokens: 9999, retired: 999_999, waited: 9999},
			" 999:00 99999999  999999  9999.0  9999.0   150  86400.0s   9999   999999  9999"},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, row.line.String())
			assert.Less(t, len(row.line.String()), 80)
			assert.Len(t, row.line.String(), len(columns), "the line is as wide as the words above it")
		})
	}
	assert.Less(t, len(rotation(time.Hour, aadpool.Stats{Fetches: 9999, TokenExpires: time.Now().Add(time.Hour)})), 80)
}

func TestStoryIsWrapped(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       []string
	}{
		{"a short line", "   0:01 Entra is back.", []string{"   0:01 Entra is back."}},
		{"a long one", "   0:01 " + strings.Repeat("word ", 16) + "end",
			[]string{"   0:01 word word word word word word word word word word word word word word", "        word word end"}},
		{"a word that is longer than a line", "   0:01 " + strings.Repeat("x", 90),
			[]string{"   0:01", "        " + strings.Repeat("x", 90)}},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, wrapped(row.text)) })
	}
}
