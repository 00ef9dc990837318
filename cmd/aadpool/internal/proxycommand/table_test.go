package proxycommand

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

const (
	proxyPage   = "../../../../docs/proxy.md"
	proxySchema = "../../../../docs/aadpool-proxy.schema.json"
)

// meaning is a key's help, for any machine.
func (k proxyKey) meaning() string {
	return strings.ReplaceAll(k.Help, unixsocket.DefaultDir(), "$XDG_RUNTIME_DIR/aadpool")
}

// TestTableOfSettingsIsThatOfTheCode writes the table of docs/proxy.md with UPDATE_DOCS=1.
func TestTableOfSettingsIsThatOfTheCode(t *testing.T) {
	text, err := os.ReadFile(proxyPage)
	require.NoError(t, err)
	lines := []string{"| key, flag | variable | a server's own | |", "|---|---|---|---|"}
	for _, k := range proxyKeys() {
		own, variable := "", ""
		if k.ofUpstream {
			own = "yes"
		}
		if len(k.Envs) > 0 {
			variable = "`" + k.Envs[0] + "`"
		}
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s | %s |", k.Name, variable, own,
			strings.ReplaceAll(k.meaning(), "|", "\\|")))
	}
	pattern := regexp.MustCompile(`(?s)(<!-- settings: [^\n]*-->\n).*?(<!-- end -->)`)
	require.Regexp(t, pattern, string(text))
	want := pattern.ReplaceAllStringFunc(string(text), func(found string) string {
		begin, _, _ := strings.Cut(found, "\n")
		return begin + "\n" + strings.Join(lines, "\n") + "\n<!-- end -->"
	})
	compareOrWrite(t, proxyPage, want)
}

// compareOrWrite writes the file with UPDATE_DOCS=1.
func compareOrWrite(t *testing.T, file, want string) {
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		return
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, want, string(text), "run UPDATE_DOCS=1 go test -run '%s' .", t.Name())
}

type schema map[string]any

// schema is a key's in JSON Schema: https://json-schema.org/draft/2020-12
func (k proxyKey) schema() schema {
	s := schema{"description": k.meaning()}
	switch {
	case k.Target.Type() == reflect.TypeFor[time.Duration]():
		s["type"], s["pattern"] = "string", `^([0-9]+(\.[0-9]*)?(ns|us|ms|s|m|h))+$`
	case k.Target.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case k.Target.Kind() == reflect.Int:
		s["type"] = "integer"
	case k.Target.Kind() == reflect.Slice:
		s["oneOf"] = []schema{{"type": "string"}, {"type": "array", "items": schema{"type": "string"}}}
	default:
		s["type"] = "string"
	}
	if k.Enum != "" {
		s["enum"] = strings.Split(strings.TrimSuffix(k.Enum, ","), ",")
	}
	return s
}

// TestSchemaOfTheConfigurationFileIsThatOfTheCode writes the schema, for editors, with UPDATE_DOCS=1.
func TestSchemaOfTheConfigurationFileIsThatOfTheCode(t *testing.T) {
	own := schema{
		nameKey: schema{"type": "string", "pattern": upstreamName.String(),
			"description": "What the server is called in the log, in /readyz and in metrics."},
		dsnKey: schema{"type": "string", "description": "As for pgxpool: a URL or keywords."},
	}
	top := schema{}
	for _, k := range proxyKeys() {
		top[k.Name] = k.schema()
		if k.ofUpstream {
			own[k.Name] = k.schema()
		}
	}
	top[upstreamsKey] = schema{"type": "array", "minItems": 1, "items": schema{"type": "object",
		"properties": own, "required": []string{nameKey, dsnKey}, "additionalProperties": false}}
	text, err := json.MarshalIndent(schema{"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title": "aadpool proxy --config",
		"type":  "object", "properties": top, "required": []string{upstreamsKey}, "additionalProperties": false}, "",
		"  ")
	require.NoError(t, err)
	compareOrWrite(t, proxySchema, string(text)+"\n")
}
