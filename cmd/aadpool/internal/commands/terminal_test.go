package commands

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// onTerminal is o where a person watches, on a terminal of so many columns.
func onTerminal(t *testing.T, o invocation.System, columns string) invocation.System {
	t.Setenv("COLUMNS", columns)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	o.IsTerminal = func(io.Writer) bool { return true }
	return o
}

func TestMarksHaveColoursOnATerminal(t *testing.T) {
	for _, row := range []struct {
		name     string
		set      func(t *testing.T)
		coloured bool
	}{
		{"a terminal", func(*testing.T) {}, true},
		{"NO_COLOR", func(t *testing.T) { t.Setenv("NO_COLOR", "1") }, false},
		{"a dumb terminal", func(t *testing.T) { t.Setenv("TERM", "dumb") }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearEnvironment(t)
			o := onTerminal(t, invocation.System{}, "100")
			row.set(t)
			got := runCommand(t, o, "check", "host="+t.TempDir())
			for _, mark := range []string{terminal.Green + "✓" + terminal.Plain, terminal.Yellow + "!" + terminal.Plain,
				terminal.Faint + "–" + terminal.Plain, terminal.Red + "✗" + terminal.Plain} {
				assert.Equal(t, row.coloured, strings.Contains(got.stdout, mark), got.stdout)
			}
		})
	}
	got := runCommand(t, invocation.System{}, "check", "host="+t.TempDir())
	assert.NotContains(t, got.stdout, "\x1b", "a pipe gets none")
}

// escapes are what a terminal does not show.
var escapes = regexp.MustCompile(`\x1b\[\??\d*[mKhl]`)

func TestTextIsAsWideAsTheTerminal(t *testing.T) {
	for _, row := range []struct {
		columns string
		width   int
	}{{"50", 50}, {"20", 50}, {"79", 79}, {"100", 100}} {
		t.Run(row.columns+" columns", func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "billing-api"})
			o := onTerminal(t, a.system(), row.columns)
			got := runCommand(t, o, "check", a.server.DSN("billing-api"))
			require.Equal(t, exitRole, got.status, got.stdout)
			text, toType, _ := strings.Cut(escapes.ReplaceAllString(got.stdout, ""), "\nTo fix:\n")
			for line := range strings.Lines(text) {
				word := strings.TrimSpace(line) // a word that is longer than a line stays whole
				assert.True(t, utf8.RuneCountInString(line) <= row.width+1 || !strings.Contains(word, " "), line)
			}
			for line := range strings.Lines(toType) {
				if strings.HasPrefix(line, "  #") || strings.HasPrefix(line, "  --") {
					assert.LessOrEqual(t, utf8.RuneCountInString(line), row.width+1, line)
				}
			}
			whole := strings.ReplaceAll(toType, "\n    ", " ") // SQL that is broken is the same SQL
			assert.Contains(t, whole, "\n  select * from pgaadauth_create_principal('billing-api', false, false);\n")
		})
	}
}

// watchedOutput is what a person sees, as it comes.
type watchedOutput struct {
	mu      sync.Mutex
	text    bytes.Buffer
	looksAt string
	seen    func() // called once looksAt is there
}

func (w *watchedOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if w.seen != nil && strings.Contains(w.text.String(), w.looksAt) {
		w.seen()
		w.seen = nil
	}
	return len(p), nil
}

func TestALongStepSaysWhatItWaitsFor(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	a.SetFailure(aadpooltest.Hanging())
	ctx, cancel := context.WithCancel(t.Context())
	host := strings.Trim(strings.TrimPrefix(a.URL(), "https:"), "/")
	out := &watchedOutput{looksAt: "… credential asking " + host + "… 2 s", seen: cancel}
	status := Run(ctx, []string{"check", a.server.DSN("orders-api")}, out, io.Discard, onTerminal(t, a.system(), "100"))
	assert.Equal(t, exitInterrupted, status)
	assert.Contains(t, out.text.String(), out.looksAt)
	assert.Regexp(t, `\r\x1b\[K[^\n]*✗`, out.text.String(), "the line is taken back")
}
