package check_test

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
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

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
			commandtest.ClearEnvironment(t)
			o := commandtest.OnTerminal(t, invocation.System{}, "100")
			row.set(t)
			got := commandtest.Run(t, o, "check", "host="+t.TempDir())
			for _, mark := range []string{terminal.Green + "✓" + terminal.Plain, terminal.Yellow + "!" + terminal.Plain,
				terminal.Faint + "–" + terminal.Plain, terminal.Red + "✗" + terminal.Plain} {
				assert.Equal(t, row.coloured, strings.Contains(got.Stdout, mark), got.Stdout)
			}
		})
	}
	got := commandtest.Run(t, invocation.System{}, "check", "host="+t.TempDir())
	assert.NotContains(t, got.Stdout, "\x1b", "a pipe gets none")
}

// escapes are what a terminal does not show.
var escapes = regexp.MustCompile(`\x1b\[\??\d*[mKhl]`)

func TestTextIsAsWideAsTheTerminal(t *testing.T) {
	for _, row := range []struct {
		columns string
		width   int
	}{{"50", 50}, {"20", 50}, {"79", 79}, {"100", 100}} {
		t.Run(row.columns+" columns", func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "billing-api"})
			o := commandtest.OnTerminal(t, a.System(), row.columns)
			got := commandtest.Run(t, o, "check", a.Server.DSN("billing-api"))
			require.Equal(t, diag.Role, got.Status, got.Stdout)
			text, toType, _ := strings.Cut(escapes.ReplaceAllString(got.Stdout, ""), "\nTo fix:\n")
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

func TestALongStepSaysWhatItWaitsFor(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	a.SetFailure(aadpooltest.Hanging())
	ctx, cancel := context.WithCancel(t.Context())
	host := strings.Trim(strings.TrimPrefix(a.URL(), "https:"), "/")
	line := regexp.MustCompile("… credential asking " + regexp.QuoteMeta(host) + `… \d+ s`)
	out := &countedWaits{line: line, second: cancel}
	status := commands.Run(ctx, []string{"check", a.Server.DSN("orders-api")}, out, io.Discard,
		commandtest.OnTerminal(t, a.System(), "100"))
	assert.Equal(t, diag.Interrupted, status)
	assert.Greater(t, len(out.seen), 1, out.text.String())
	assert.Regexp(t, `\r\x1b\[K[^\n]*✗`, out.text.String(), "the line is taken back")
}

// countedWaits is what a person sees of a step that waits. The seconds that the line names need not follow one another:
// a ticker leaves out those for which nobody has had time.
type countedWaits struct {
	line   *regexp.Regexp
	second func() // called from the second line on

	mu   sync.Mutex
	text bytes.Buffer    // guarded by mu, as seen
	seen map[string]bool // the lines so far
}

func (w *countedWaits) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	w.seen = map[string]bool{}
	for _, found := range w.line.FindAllString(w.text.String(), -1) {
		w.seen[found] = true
	}
	if len(w.seen) > 1 {
		w.second()
	}
	return len(p), nil
}
