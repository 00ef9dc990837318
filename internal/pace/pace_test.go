package pace

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/backoff"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

var errRefused = &pgconn.PgError{Code: "28P01"}

func TestRefusalsOfOneDestination(t *testing.T) {
	azuretest.ClearPGEnv(t)
	one, other := "one", "another"
	to := Destination{host: "db.example", port: 5432, role: "orders-api"}
	newLogin := func() *pgconn.Config { return &pgconn.Config{} }
	for _, row := range []struct {
		name string
		do   func(t *testing.T, r *Logins)
		wait time.Duration
		open bool
	}{
		{"one refusal: no pause", func(_ *testing.T, r *Logins) {
			r.Refused(to, newLogin(), one, errRefused, time.Now())
		}, 0, true},
		{"two by the hosts of one login: no pause", func(t *testing.T, r *Logins) {
			login := newLogin()
			r.Refused(to, login, one, errRefused, time.Now())
			r.Refused(to, login, one, errRefused, time.Now())
		}, 0, true},
		{"two logins", func(t *testing.T, r *Logins) { refuseTwice(r, to, one) }, 0, false},
		{"two logins, and the pause is over", func(t *testing.T, r *Logins) {
			refuseTwice(r, to, one)
		}, backoff.First * 6 / 5, true},
		{"another token", func(t *testing.T, r *Logins) { refuseTwice(r, to, other) }, 0, true},
		{"a login that succeeded", func(t *testing.T, r *Logins) { refuseTwice(r, to, one); r.Succeeded(to) }, 0, true},
		{"another role was refused", func(t *testing.T, r *Logins) {
			refuseTwice(r, Destination{host: "db.example", role: "x"}, one)
		}, 0, true},
		{"two logins, and another role was refused since", func(t *testing.T, r *Logins) {
			refuseTwice(r, to, one)
			refuseOnce(r, Destination{host: "db.example", role: "x"}, one)
		}, 0, false},
		{"the pause is over, and one more login was refused", func(t *testing.T, r *Logins) {
			refuseTwice(r, to, one)
			time.Sleep(backoff.First * 6 / 5)
			_ = r.Admit(t.Context(), to, one)
			refuseOnce(r, to, one)
		}, 0, false},
		{"the pause is over, and of the one login nothing was heard", func(t *testing.T, r *Logins) {
			refuseTwice(r, to, one)
			time.Sleep(backoff.First * 6 / 5)
			_ = r.Admit(t.Context(), to, one)
		}, backoff.First * 6 / 5, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r Logins
				row.do(t, &r)
				time.Sleep(row.wait)
				err := r.Admit(t.Context(), to, one)
				if row.open {
					assert.NoError(t, err)
					return
				}
				assert.ErrorIs(t, err, errRefused)
				assert.ErrorContains(t, err, `db.example:5432 has refused role "orders-api" `)
				assert.ErrorContains(t, err, "times in a row (next try in ")
			})
		})
	}
	t.Run("roles without number", func(t *testing.T) {
		var r Logins
		for i := range 10 * maxDestinations {
			r.Refused(Destination{port: uint16(i)}, newLogin(), one, errRefused, time.Now())
			require.LessOrEqual(t, len(r.rows), maxDestinations)
		}
	})
}

func refuseOnce(r *Logins, to Destination, token any) {
	r.Refused(to, &pgconn.Config{}, token, errRefused, time.Now())
}

func refuseTwice(r *Logins, to Destination, token any) {
	refuseOnce(r, to, token)
	refuseOnce(r, to, token)
}

// tryOne has two logins refused, and another tried when the pause is over.
func tryOne(t *testing.T, r *Logins, to Destination, token any) {
	t.Helper()
	refuseTwice(r, to, token)
	time.Sleep(backoff.First * 6 / 5)
	require.NoError(t, r.Admit(t.Context(), to, token))
}

// TestWhileOneLoginIsTriedTheOthersWaitForIt matters to a pool's MinConns: pgxpool opens them together and gives up all
// when one fails, that which is being tried among them.
func TestWhileOneLoginIsTriedTheOthersWaitForIt(t *testing.T) {
	one := "one"
	to := Destination{host: "db.example", port: 5432, role: "orders-api"}
	for _, row := range []struct {
		name   string
		settle func(r *Logins)
		err    error
		after  time.Duration
	}{
		{"it is let in", func(r *Logins) { r.Succeeded(to) }, nil, time.Millisecond},
		{"it is refused", func(r *Logins) { refuseOnce(r, to, one) }, errRefused, time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r Logins
				tryOne(t, &r, to, one)
				start := time.Now()
				var others sync.WaitGroup
				for range 3 {
					others.Go(func() {
						assert.ErrorIs(t, r.Admit(t.Context(), to, one), row.err)
						assert.Equal(t, row.after, time.Since(start))
					})
				}
				time.Sleep(time.Millisecond)
				row.settle(&r)
				others.Wait()
			})
		})
	}
	t.Run("nothing is heard of it: after the pause one of them is tried, and the others wait for that",
		func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r Logins
				tryOne(t, &r, to, one)
				var tried atomic.Int64
				for range 3 {
					go func() {
						assert.NoError(t, r.Admit(t.Context(), to, one))
						tried.Add(1)
					}()
				}
				synctest.Wait()
				assert.Zero(t, tried.Load())
				time.Sleep(backoff.First * 6 / 5)
				synctest.Wait()
				assert.EqualValues(t, 1, tried.Load())
				r.Succeeded(to)
				synctest.Wait()
				assert.EqualValues(t, 3, tried.Load())
			})
		})
	t.Run("a caller who stops waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var r Logins
			tryOne(t, &r, to, one)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.ErrorIs(t, r.Admit(ctx, to, one), context.DeadlineExceeded)
		})
	})
}

func TestRefusalsAreWarnedOfOnceAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Warnings
		assert.True(t, w.IsDue("a"))
		assert.False(t, w.IsDue("a"))
		assert.True(t, w.IsDue("b"), "another one at once")
		assert.False(t, w.IsDue("a"))
		time.Sleep(warnAgainAfter)
		assert.True(t, w.IsDue("a"))
		for i := range 10 * maxWarnings {
			w.IsDue(string(rune(i)))
			require.LessOrEqual(t, len(w.last), maxWarnings)
		}
	})
}
