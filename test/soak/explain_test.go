package soak_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
)

const (
	// nearItsEnd is how much of its life a token needs to have left for a login by it to be sure to succeed: the server
	// looks at the token when TLS has been set up.
	nearItsEnd = 1200 * time.Millisecond

	// settling is how long after its coming a new token may take to reach everyone.
	settling = time.Second

	// longMemory is how far back the windows can be asked about: more than an operation takes.
	longMemory = 2 * patience
)

// span is a time from one moment to another. A zero to means that it has not ended.
type span struct{ from, to time.Time }

func (s span) touches(other span) bool {
	return (s.to.IsZero() || !other.from.After(s.to)) && (other.to.IsZero() || !s.from.After(other.to))
}

// windows is when logins failed, and when connections were cut.
type windows struct {
	mu     sync.Mutex // guards what follows
	logins []span
	cuts   []span
}

// noLogins begins a window in which logins may fail, and returns what ends it.
func (w *windows) noLogins() (end func()) { return w.open(&w.logins) }

// cut begins a window in which connections are cut, and returns what ends it.
func (w *windows) cut() (end func()) { return w.open(&w.cuts) }

func (w *windows) open(list *[]span) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from := time.Now()
	*list = append(slices.DeleteFunc(*list, func(s span) bool {
		return !s.to.IsZero() && time.Since(s.to) > longMemory
	}), span{from: from})
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		i := slices.Index(*list, span{from: from})
		(*list)[i].to = time.Now()
	}
}

// explainAcquire reports whether an acquire at that time may fail: it may have had to log in.
func (w *windows) explainAcquire(when span) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.logins, when.touches) || slices.ContainsFunc(w.cuts, when.touches)
}

// explainQuery reports whether a connection made at born may be dead by now. Which it may be long after it was cut:
// nobody notices before it is used.
func (w *windows) explainQuery(born, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.cuts, span{born, now}.touches)
}

// tokenLog is a credential that knows when there was a good token.
type tokenLog struct {
	cred azcore.TokenCredential

	mu     sync.Mutex // guards what follows
	n      int
	latest []issuedToken // newest last; those that matter still
}

type issuedToken struct {
	came  time.Time
	valid span
}

func (l *tokenLog) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := l.cred.GetToken(ctx, options)
	if err != nil {
		return token, err
	}
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token.Token, &claims); err != nil {
		return azcore.AccessToken{}, err
	}
	ends := claims.ExpiresAt.Time
	if token.ExpiresOn.Before(ends) {
		ends = token.ExpiresOn
	}
	l.add(issuedToken{time.Now(), span{claims.NotBefore.Time, ends}})
	return token, nil
}

func (l *tokenLog) add(token issuedToken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.latest) == 1000 { // which took longer than longMemory
		l.latest = slices.Clone(l.latest[500:])
	}
	l.n++
	l.latest = append(l.latest, token)
}

func (l *tokenLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// explain reports whether there was a moment, in that time, without a token that a login was sure to succeed by.
func (l *tokenLog) explain(when span) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, token := range l.latest {
		if when.touches(span{token.came, token.valid.from.Add(settling)}) && token.valid.from.After(token.came) {
			return true
		}
		gone := span{from: token.valid.to.Add(-nearItsEnd)}
		if i+1 < len(l.latest) {
			next := l.latest[i+1].came
			if next.Before(gone.from) {
				continue // a rotation as it should be
			}
			gone.to = next.Add(settling)
		}
		if when.touches(gone) {
			return true
		}
	}
	return len(l.latest) == 0
}

func TestSoakKnowsWhatAFaultExplains(t *testing.T) {
	now := time.Now()
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	w := &windows{logins: []span{{at(10), at(12)}, {from: at(50)}}, cuts: []span{{at(30), at(30)}}}
	for _, row := range []struct {
		name     string
		from, to float64
		want     bool
	}{
		{"before a window", 8, 9.9, false},
		{"into it", 9, 11, true},
		{"within it", 10.5, 11, true},
		{"out of it", 11, 13, true},
		{"all around it", 9, 13, true},
		{"after it", 12.1, 20, false},
		{"over a cut", 29, 31, true},
		{"in a window that goes on", 60, 61, true},
	} {
		t.Run("an acquire "+row.name, func(t *testing.T) {
			assert.Equal(t, row.want, w.explainAcquire(span{at(row.from), at(row.to)}))
		})
	}
	assert.True(t, w.explainQuery(at(20), at(40)), "a query on a connection that was cut, though long ago")
	assert.False(t, w.explainQuery(at(31), at(40)), "a query on a connection that was made later")

	tokens := &tokenLog{latest: []issuedToken{
		{at(0), span{at(0), at(10)}},
		{at(8), span{at(8), at(18)}},
		{at(21), span{at(21), at(31)}},
		{at(29), span{at(31), at(41)}},
	}}
	for _, row := range []struct {
		name     string
		from, to float64
		want     bool
	}{
		{"with a good token", 1, 2, false},
		{"over a rotation", 7, 11, false},
		{"with a token about to end", 17, 17.1, true},
		{"without a token", 19, 20, true},
		{"when the next one has just come", 21.1, 22, true},
		{"when it has settled", 22.1, 23, false},
		{"with a token that is not valid yet", 30, 30.5, true},
		{"with the last one gone", 45, 46, true},
	} {
		t.Run("a connect "+row.name, func(t *testing.T) {
			assert.Equal(t, row.want, tokens.explain(span{at(row.from), at(row.to)}))
		})
	}
}
