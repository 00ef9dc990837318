package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aadpool/aadpool/examples/internal/latency"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
)

const (
	// meanPause is how long a client rests between two requests: eight of them then keep one core of two busy with hashes.
	meanPause = 150 * time.Millisecond

	// A client uses its access token a few times, refreshes it, and logs in again after a few refreshes.
	usesPerToken     = 3
	refreshesPerTurn = 5

	requestTimeout = 15 * time.Second
)

// kind is what a request is for.
type kind int

const (
	login kind = iota
	refresh
	use
	kinds
)

// load is clients of the service, each of which logs in, refreshes its tokens and uses them, on any replica.
type load struct {
	http    *http.Client
	urls    []string
	clients []localservice.Registration

	// excuses reports whether a request at that time may be answered by 503, which its client then repeats.
	excuses func(from, to time.Time) bool

	mu             sync.Mutex // guards what follows
	counts         [kinds]int64
	failed         int64
	firstError     error
	refused        int64 // answered by 503, with reason
	slowestRefusal time.Duration
	refusedClients map[string]bool  // that have not been served since
	latencies      latency.Recorder // of requests for tokens that were served
}

func newLoad(client *http.Client, urls []string, clients []localservice.Registration) *load {
	never := func(time.Time, time.Time) bool { return false }
	return &load{http: client, urls: urls, clients: clients, excuses: never, refusedClients: map[string]bool{}}
}

// run lets the clients work until ctx ends, and returns when all their requests have been answered.
func (l *load) run(ctx context.Context) {
	var working sync.WaitGroup
	for _, client := range l.clients {
		working.Go(func() {
			for ctx.Err() == nil {
				l.turn(ctx, client)
			}
		})
	}
	working.Wait()
}

// turn is one login and what follows from it. A failure ends it.
func (l *load) turn(ctx context.Context, client localservice.Registration) {
	tokens, err := l.token(ctx, client, login, url.Values{"grant_type": {"client_credentials"}})
	for range refreshesPerTurn {
		for range usesPerToken {
			if err != nil || !pause(ctx) {
				return
			}
			err = l.use(client, tokens.Access)
		}
		if err != nil || !pause(ctx) {
			return
		}
		tokens, err = l.token(ctx, client, refresh,
			url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}})
	}
}

// pause returns false when the load is to end.
func pause(ctx context.Context) bool { return sleep(ctx, meanPause/2+rand.N(meanPause)) }

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// errUnavailable is an answer of 503, with its Retry-After.
type errUnavailable struct {
	error
	retryAfter time.Duration
}

// token gets tokens. While the service is excused it comes back when the service says so, with the same request.
func (l *load) token(ctx context.Context, client localservice.Registration, kind kind,
	form url.Values) (tokens, error) {
	for {
		var t tokens
		start := time.Now()
		err := l.post(client, form, &t)
		var unavailable errUnavailable
		if !errors.As(err, &unavailable) || !l.excuses(start, time.Now()) {
			l.record(client, kind, time.Since(start), err)
			return t, err
		}
		l.recordRefusal(client, time.Since(start))
		if !sleep(ctx, unavailable.retryAfter) {
			return t, err
		}
	}
}

func (l *load) post(client localservice.Registration, form url.Values, into *tokens) error {
	r, err := http.NewRequest(http.MethodPost, l.anyReplica()+"/tokenservice/oauth2/v2.0/token",
		strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(client.ClientID.String(), client.Secret.Reveal())
	return l.send(r, into)
}

func (l *load) use(client localservice.Registration, access string) error {
	r, err := http.NewRequest(http.MethodGet, l.anyReplica()+"/v1/me", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+access)
	var me struct {
		ClientID string `json:"client_id"`
	}
	start := time.Now()
	err = l.send(r, &me)
	if err == nil && me.ClientID != client.ClientID.String() {
		err = fmt.Errorf("the service takes %s for %q", client.Name, me.ClientID)
	}
	l.record(client, use, time.Since(start), err)
	return err
}

func (l *load) anyReplica() string { return l.urls[rand.N(len(l.urls))] }

// send finishes a request even if the load ends meanwhile.
func (l *load) send(r *http.Request, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	response, err := l.http.Do(r.WithContext(ctx))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err := fmt.Errorf("%s %s: %s: %s", r.Method, r.URL.Path, response.Status, bytes.TrimSpace(body))
		seconds, noNumber := strconv.Atoi(response.Header.Get("Retry-After"))
		if response.StatusCode == http.StatusServiceUnavailable && noNumber == nil {
			return errUnavailable{err, time.Duration(seconds) * time.Second}
		}
		return err
	}
	return json.Unmarshal(body, into)
}

func (l *load) record(client localservice.Registration, kind kind, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[kind]++
	if kind != use {
		l.latencies.Add(took)
		delete(l.refusedClients, client.Name)
	}
	if err != nil {
		l.failed++
		if l.firstError == nil {
			l.firstError = err
		}
	}
}

func (l *load) recordRefusal(client localservice.Registration, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
	l.slowestRefusal = max(l.slowestRefusal, took)
	l.refusedClients[client.Name] = true
}

// waiting is how many clients have been refused, and not been served since.
func (l *load) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.refusedClients)
}

// tally is what a load has done so far.
type tally struct {
	logins, refreshes, uses int64
	failed                  int64
	firstError              error
	refused                 int64
	slowestRefusal          time.Duration
	p50, p99, max           time.Duration // of requests for tokens
}

func (t tally) requests() int64 { return t.logins + t.refreshes + t.uses }

// endSecond returns the tally so far, with the latencies of the time since the call before.
func (l *load) endSecond() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.EndSecond())
}

// end returns the tally with the latencies of the whole load.
func (l *load) end() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally(l.latencies.All())
}

// tally is called with l.mu held.
func (l *load) tally(latencies *latency.Histogram) tally {
	return tally{
		logins:         l.counts[login],
		refreshes:      l.counts[refresh],
		uses:           l.counts[use],
		failed:         l.failed,
		firstError:     l.firstError,
		refused:        l.refused,
		slowestRefusal: l.slowestRefusal,
		p50:            latencies.Percentile(50),
		p99:            latencies.Percentile(99),
		max:            latencies.Max(),
	}
}
