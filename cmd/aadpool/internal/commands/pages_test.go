package commands

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// The pages whose commands are read as aadpool reads them.
var pagesOfCommands = []string{"../../../../README.md", "../../README.md", "../../../../docs/*.md",
	"../../../../docs/recipes/*.md"}

// A page that tells a reader to type what the program does not know is found here, also where nothing runs it.
func TestCommandsOfThePagesAreKnown(t *testing.T) {
	azuretest.ClearPGEnv(t)
	checked := 0
	for _, pattern := range pagesOfCommands {
		pages, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, page := range pages {
			for _, c := range commandsOf(t, page) {
				checked++
				own, _ := commandline.Split(c.args)
				if len(own) > 1 && own[0] == "proxy" && own[1] == "status" {
					own = own[1:]
				}
				_, err := parse(own, io.Discard)
				assert.NoError(t, err, "%s:%d: %q", page, c.line, c.args)
			}
		}
	}
	assert.Greater(t, checked, 50)
}

type pageCommand struct {
	args []string
	line int
}

// commandsOf are the commands of aadpool in a page's blocks: in scripts, in pipelines' files and below other programs.
func commandsOf(t *testing.T, page string) (commands []pageCommand) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	inside, continued := false, ""
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			inside = !inside
			continue
		}
		if before, ok := strings.CutSuffix(line, "\\"); ok && inside {
			continued += before
			continue
		}
		line, continued = continued+line, ""
		if !inside {
			continue
		}
		for _, found := range commandStart.FindAllStringIndex(line, -1) {
			if serviceName.MatchString(line[:found[1]]) {
				continue
			}
			commands = append(commands, pageCommand{shellWords(line[found[1]:]), i + 1})
		}
	}
	return commands
}

// commandStart is where a command begins: aadpool and a word in small letters, which no path or package is.
var commandStart = regexp.MustCompile(`(?:^|[\s(;|&])aadpool `)

// serviceName is where aadpool is no command, but what a service of Windows is called.
var serviceName = regexp.MustCompile(`(?:-Name|sc\.exe \w+) aadpool $`)

// shellWords are a command's arguments, up to what ends it in a shell.
func shellWords(line string) (words []string) {
	var word strings.Builder
	quote, open := rune(0), false
	end := func() {
		if open {
			words = append(words, word.String())
		}
		word.Reset()
		open = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|;&)>#", r) && !open || strings.ContainsRune("|;)", r):
			end()
			return words
		default:
			word.WriteRune(r)
			open = true
		}
	}
	end()
	return words
}
