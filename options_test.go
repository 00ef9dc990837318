package aadpool

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestOptions(t *testing.T) {
	for _, row := range []struct {
		name string
		opt  Option
		want string
	}{
		{"a nil option", nil, "an Option is nil"},
		{"an empty scope", WithScope(""),
			`WithScope(""): a scope looks like "https://ossrdbms-aad.database.windows.net/.default"`},
		{"a resource without a permission", WithScope("https://ossrdbms-aad.database.windows.net"), "a scope looks like"},
		{"a resource with a bare slash", WithScope("https://ossrdbms-aad.database.windows.net/"), "a scope looks like"},
		{"a permission without a resource", WithScope("/.default"), "a scope looks like"},
		{"two scopes", WithScope("https://a.example/.default https://b.example/.default"), "a scope looks like"},
		{"a nil logger", WithLogger(nil), "use slog.New(slog.DiscardHandler)"},
		{"no token timeout", WithTokenTimeout(0), "WithTokenTimeout(0s): must be positive"},
		{"an Observer that is told nothing", WithObserver(Observer{}), "the Observer has no function"},
		{"a negative token timeout", WithTokenTimeout(-time.Second), "must be positive"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := NewHook(azuretest.Issuing(time.Hour, 0), row.opt)
			require.ErrorContains(t, err, row.want)
			assert.Regexp(t, "^aadpool: ", err.Error())
		})
	}
	for _, row := range []struct {
		name string
		opt  Option
	}{
		{"the shortest scope", WithScope("a/b")},
		{"the shortest timeout", WithTokenTimeout(1)},
		{"an Observer of one thing: FetchStart", WithObserver(Observer{
			FetchStart: func(ctx context.Context, _ FetchStart) context.Context { return ctx }})},
		{"FetchEnd", WithObserver(Observer{FetchEnd: func(context.Context, FetchEnd) {}})},
		{"Waited", WithObserver(Observer{Waited: func(context.Context, Waited) {}})},
		{"LoginRefused", WithObserver(Observer{LoginRefused: func(context.Context, LoginRefused) {}})},
		{"ConnRetired", WithObserver(Observer{ConnRetired: func(context.Context, ConnRetired) {}})},
	} {
		t.Run("taken: "+row.name, func(t *testing.T) {
			_, err := NewHook(azuretest.Issuing(time.Hour, 0), row.opt)
			require.NoError(t, err)
		})
	}
	t.Run("all that is wrong is said at once", func(t *testing.T) {
		_, err := NewHook(azuretest.Issuing(time.Hour, 0), WithScope(""), WithLogger(nil))
		require.ErrorContains(t, err, "WithScope")
		require.ErrorContains(t, err, "WithLogger")
	})
}
