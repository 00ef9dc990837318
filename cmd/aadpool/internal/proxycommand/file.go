package proxycommand

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/spelling"
)

// The keys of a server in the file that are no flags.
const (
	upstreamsKey = "upstreams"
	nameKey      = "name"
	dsnKey       = "dsn"
)

// A proxyKey is a key of the file: a flag, its variable, and what of several servers it is about.
type proxyKey struct {
	*kong.Flag
	ofUpstream bool // it may be a server's own; at the top it is for all that say nothing else
}

// proxyKeys are all of them, in the order of --help: the one table that the file, its schema and docs/proxy.md have.
var proxyKeys = sync.OnceValue(func() (keys []proxyKey) {
	var ofUpstream upstreamFlags
	own := map[string]bool{}
	for _, flag := range flagsOf(&ofUpstream) {
		own[flag.Name] = true
	}
	for _, flag := range flagsOf(&Command{}) {
		if name := flag.Name; name != "help" && name != "config" && name != "check-config" && !flag.Hidden {
			keys = append(keys, proxyKey{flag, own[name]})
		}
	}
	return keys
})

// flagsOf are those that kong finds in a struct.
func flagsOf(grammar any) []*kong.Flag {
	return parserOf(grammar).Model.Flags
}

func parserOf(grammar any) *kong.Kong {
	parser, err := kong.New(grammar, kong.DefaultEnvars("AADPOOL"), tokens.Vars(), Vars())
	if err != nil {
		panic(err) // the tags are wrong, which the tests see
	}
	return parser
}

// A fileMap is a mapping of the file: what its keys have, as flags have it.
type fileMap struct {
	line   int
	values map[string][]string
}

// configFault is an error in the file. It repeats no value: what stands in the wrong place may be a secret.
func (cmd *Command) configFault(line int, format string, arguments ...any) error {
	where := cmd.Config
	if line > 0 {
		where = fmt.Sprintf("%s:%d", where, line)
	}
	return exit.Usage(where + ": " + fmt.Sprintf(format, arguments...))
}

var yamlLine = lazyregexp.New(`line (\d+)`)

// readFile has the file say what the command line and the environment do not. What a server says of itself counts
// before all of them.
func (cmd *Command) readFile() (*Command, []upstreamSettings, error) {
	if len(cmd.DSN) > 0 {
		return nil, nil, exit.Usage("--config has the servers: give no DSN with it")
	}
	top, servers, err := cmd.parseFile()
	if err != nil {
		return nil, nil, err
	}
	general := map[string][]string{}
	for key, values := range top.values {
		if !cmd.isSaid(key) {
			general[key] = values
		}
	}
	whole, err := cmd.with(general, nil)
	if err != nil {
		return nil, nil, cmd.configFault(0, "%s", err)
	}
	for key := range general {
		whole.given[key] = true
	}
	var settings []upstreamSettings
	ownPlace := map[string]bool{}
	for _, server := range servers {
		s, err := cmd.ofServer(server, general)
		if err != nil {
			return nil, nil, err
		}
		ownPlace[s.name] = server.values["listen"] != nil || server.values["socket-dir"] != nil
		settings = append(settings, s)
	}
	return whole, settings, placeSettings(settings, ownPlace)
}

// ofServer are the settings of one of the file's servers.
func (cmd *Command) ofServer(server fileMap, general map[string][]string) (s upstreamSettings, err error) {
	one := func(key string) string { return strings.Join(server.values[key], "") }
	s.name, s.dsn = one(nameKey), one(dsnKey)
	switch {
	case !upstreamName.MatchString(s.name):
		return s, cmd.configFault(server.line, "a server needs a name: letters, digits, and _.- between them")
	case s.dsn == "":
		return s, cmd.configFault(server.line, "%s needs a dsn", s.name)
	}
	own, merged := map[string][]string{}, map[string][]string{}
	for key, values := range general {
		merged[key] = values
	}
	for key, values := range server.values {
		if key != nameKey && key != dsnKey {
			own[key], merged[key] = values, values
		}
	}
	if own["listen"] != nil || own["socket-dir"] != nil { // says where, and not where all are
		for _, key := range []string{"listen", "socket-dir", "tcp"} {
			if own[key] == nil {
				delete(merged, key)
			}
		}
	}
	its, err := cmd.with(merged, own)
	if err != nil {
		return s, cmd.configFault(server.line, "%s: %s", s.name, err)
	}
	s.flags = its.upstreamFlags
	return s, nil
}

// with is the command as if it had these flags too, but for those of the command line that own does not have.
func (cmd *Command) with(values, own map[string][]string) (*Command, error) {
	var args []string
	for _, row := range proxyKeys() {
		for _, value := range values[row.Name] {
			args = append(args, "--"+row.Name+"="+value)
		}
	}
	other := &Command{}
	if _, err := parserOf(other).Parse(args); err != nil {
		return nil, errors.New(strings.TrimSuffix(commandline.Fault(err, args, nil), "; try --help"))
	}
	isElsewhere := own["listen"] != nil || own["socket-dir"] != nil
	for name := range cmd.given {
		isPlace := name == "listen" || name == "socket-dir" || name == "tcp"
		if own[name] == nil && (!isElsewhere || !isPlace) {
			other.flag(name).Target.Set(cmd.flag(name).Target)
		}
	}
	other.Config, other.CheckConfig, other.commandLine = cmd.Config, cmd.CheckConfig, cmd
	return other, nil
}

// parseFile reads the file's shape: its keys, and those of each server.
func (cmd *Command) parseFile() (top fileMap, servers []fileMap, err error) {
	text, err := os.ReadFile(cmd.Config)
	if err != nil {
		return top, nil, exit.Usage("reading --config: " + err.Error())
	}
	var document yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return top, nil, cmd.configFault(0, "the file is empty")
		}
		where := "" // no more of what it says: it quotes
		if found := yamlLine.FindString(err.Error()); found != "" {
			where = ", about " + found
		}
		return top, nil, cmd.configFault(0, "this is no YAML%s", where)
	}
	if top, err = cmd.readMap(document.Content[0], isTopKey); err != nil {
		return top, nil, err
	}
	list := valueOf(document.Content[0], upstreamsKey)
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return top, nil, cmd.configFault(0, "there must be a list of %s, each with a name and a dsn", upstreamsKey)
	}
	for _, node := range list.Content {
		server, err := cmd.readMap(node, isServerKey)
		if err != nil {
			return top, nil, err
		}
		servers = append(servers, server)
	}
	return top, servers, nil
}

func isTopKey(key string) (known []string, other string) {
	for _, row := range proxyKeys() {
		known = append(known, row.Name)
	}
	return append(known, upstreamsKey), ""
}

func isServerKey(key string) (known []string, other string) {
	for _, row := range proxyKeys() {
		switch {
		case row.ofUpstream:
			known = append(known, row.Name)
		case row.Name == key:
			other = "is about the whole proxy: put it at the top of the file"
		}
	}
	return append(known, nameKey, dsnKey), other
}

var plainKey = lazyregexp.New(`^[a-zA-Z][a-zA-Z0-9_-]{0,40}$`)

// readMap reads a mapping whose keys are known, and whose values are plain, or lists of such.
func (cmd *Command) readMap(node *yaml.Node, keys func(string) ([]string, string)) (fileMap, error) {
	m := fileMap{line: node.Line, values: map[string][]string{}}
	if node.Kind != yaml.MappingNode {
		return m, cmd.configFault(node.Line, "there must be keys with values here")
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		known, other := keys(key.Value)
		switch _, twice := m.values[key.Value]; {
		case other != "":
			return m, cmd.configFault(key.Line, "%s %s", key.Value, other)
		case !slices.Contains(known, key.Value):
			return m, cmd.unknownKey(key, known)
		case twice:
			return m, cmd.configFault(key.Line, "%s is there twice", key.Value)
		case key.Value == upstreamsKey:
			continue
		}
		texts, ok := textsOf(value)
		if !ok {
			return m, cmd.configFault(value.Line, "%s wants a value, or a list of values", key.Value)
		}
		m.values[key.Value] = texts
	}
	return m, nil
}

func (cmd *Command) unknownKey(key *yaml.Node, known []string) error {
	text := "there is no such key"
	if plainKey.MatchString(key.Value) {
		text = "there is no key " + key.Value
	}
	if near := spelling.Nearest(strings.ReplaceAll(key.Value, "_", "-"), known); near != "" {
		text += "; did you mean " + near + "?"
	}
	return cmd.configFault(key.Line, "%s", text)
}

// textsOf are a value's, with what kong would take for a separator escaped where it may be a list.
func textsOf(node *yaml.Node) (texts []string, ok bool) {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.ScalarNode:
		return []string{node.Value}, node.Tag != "!!null"
	case yaml.SequenceNode:
		texts = []string{}
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, false
			}
			texts = append(texts, strings.ReplaceAll(item.Value, ",", `\,`))
		}
		return texts, true
	}
	return nil, false
}

func valueOf(node *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}
