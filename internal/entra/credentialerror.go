// Package entra reads the errors of azidentity's credentials, which are pages long, for the sentence that matters.
package entra

import (
	"fmt"
	"strings"

	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/token"
)

// An Attempt is what came of asking one credential of a chain.
type Attempt struct{ Name, Reason string }

func (a Attempt) String() string { return a.Name + ": " + a.Reason }

const (
	// chainBegins is what the error of a chain has before its list. DefaultAzureCredential is a chain, too.
	chainBegins = "Attempted credentials:"

	// maxReason keeps the answer of a proxy, a page of HTML for example, from filling the screen.
	maxReason = 400
)

var (
	attemptName = lazyregexp.New(`^(\w+Credential)(?::| authentication failed\.)?\s*`)

	entraError = lazyregexp.New(`(AADSTS\d+: .*?)(?: Trace ID:|\\r|\\n|"|$)`)
	advertised = lazyregexp.New(`\.?\s*(?:To troubleshoot, visit|See) https://aka\.ms/\S+( for more information)?\.?`)
	ruler      = lazyregexp.New(`-{20,}`)
)

// IsChain reports whether the text is the error of a chain.
func IsChain(text string) bool { return strings.Contains(text, chainBegins) }

// programs are those that azidentity's credentials run. Its error does not name the one that is missing.
var programs = map[string]string{
	"AzureCLICredential": "az", "AzureDeveloperCLICredential": "azd", "AzurePowerShellCredential": "pwsh",
}

// namingProgram puts the program's name into the reason of a credential.
func namingProgram(credential, reason string) string {
	if program := programs[credential]; program != "" {
		return strings.Replace(reason, "executable not found on path", program+" is not on PATH", 1)
	}
	return reason
}

// Attempts takes the text of a chain's error apart: one for each credential that was asked.
func Attempts(text string) []Attempt {
	if _, list, ok := strings.Cut(text, chainBegins); ok {
		text = list
	}
	var attempts []Attempt
	// What belongs to one credential is indented by two tabs.
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "\n\t\t", " "), "\n\t") {
		if name := attemptName.FindStringSubmatch(part); name != nil {
			attempts = append(attempts, Attempt{name[1], namingProgram(name[1], Reason(part[len(name[0]):]))})
		}
	}
	return attempts
}

// Reason is the part of a credential's error that says why, in one line: Entra's own words where there are any.
func Reason(text string) string {
	if found := entraError.FindStringSubmatch(text); found != nil {
		return bounded(token.OneLine(found[1]))
	}
	text = ruler.ReplaceAllString(advertised.ReplaceAllString(token.OneLine(text), ""), "")
	text = token.OneLine(strings.TrimPrefix(text, "ERROR: "))
	return bounded(text)
}

func bounded(text string) string {
	if len(text) > maxReason {
		text = fmt.Sprintf("%s… (%d bytes more)", strings.ToValidUTF8(text[:maxReason], ""), len(text)-maxReason)
	}
	return text
}

// Brief is a credential's error in one line, without what may be a secret.
func Brief(err error) string {
	text := token.Redact(err.Error())
	if !IsChain(text) {
		name, _, _ := strings.Cut(text, ":")
		return namingProgram(name, Reason(text))
	}
	if found := entraError.FindStringSubmatch(text); found != nil {
		return bounded(token.OneLine(found[1])) // a chain ends at the first credential that reached Entra
	}
	var reasons []string
	for _, a := range Attempts(text) {
		reasons = append(reasons, a.String())
	}
	return "no credential of the chain has a token: " + strings.Join(reasons, "; ")
}
