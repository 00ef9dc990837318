package aadpooltest

import (
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf16"
)

// localToolScript is the stand-in for a program that a credential runs, less its first line and the three settings that
// installTool puts before it.
//
//go:embed localtool.bash
var localToolScript string

// azureCLIDefaultResource is what `az account get-access-token` asks for when it is not told:
// https://learn.microsoft.com/cli/azure/account#az-account-get-access-token
const azureCLIDefaultResource = "https://management.core.windows.net/"

// The places of the machine's handler that the stand-ins ask.
const (
	azureCLIPath          = "/az/"
	azureDeveloperCLIPath = "/azd/"
	azurePowerShellPath   = "/pwsh/"
	browserPath           = "/browser/"
)

// InstallAzureCLI writes an executable named az into dir, to be put first on PATH: a stand-in for the Azure CLI with p
// signed in. It answers `az account get-access-token` with --resource, --scope or --tenant, and no other command.
// azidentity's AzureCLICredential runs it. The stand-in is a bash script: the error says so where there is no bash,
// and on Windows it is [errors.ErrUnsupported].
func (a *Authority) InstallAzureCLI(p Principal, dir string) error {
	return a.installTool("az", azureCLIPath, p, dir)
}

// InstallAzureDeveloperCLI is [Authority.InstallAzureCLI] for azd, which azidentity's AzureDeveloperCLICredential runs:
// it answers `azd auth token` with --scope or --tenant-id.
func (a *Authority) InstallAzureDeveloperCLI(p Principal, dir string) error {
	return a.installTool("azd", azureDeveloperCLIPath, p, dir)
}

// InstallAzurePowerShell is [Authority.InstallAzureCLI] for pwsh with the module Az.Accounts, which azidentity's
// AzurePowerShellCredential runs: it answers the script that this sends, and runs no other.
func (a *Authority) InstallAzurePowerShell(p Principal, dir string) error {
	return a.installTool("pwsh", azurePowerShellPath, p, dir)
}

// InstallBrowser writes an executable named xdg-open into dir, to be put first on PATH: a stand-in for the browser that
// azidentity's InteractiveBrowserCredential opens on Linux, in which p signs in at once. It opens no other pages than
// the authority's, and is to be had where [Authority.InstallAzureCLI] is.
func (a *Authority) InstallBrowser(p Principal, dir string) error {
	return a.installTool("xdg-open", browserPath, p, dir)
}

func (a *Authority) installTool(name, path string, p Principal, dir string) error {
	if runtime.GOOS == "windows" {
		return fmt.Errorf("aadpooltest: install the %s stand-in: it is a bash script: %w", name, errors.ErrUnsupported)
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return fmt.Errorf("aadpooltest: install the %s stand-in: install bash: %w", name, err)
	}
	host, port, err := net.SplitHostPort(a.machineAddress())
	if err != nil {
		return fmt.Errorf("aadpooltest: install the %s stand-in: %w", name, err)
	}
	script := fmt.Sprintf("#!%s\nhost=%s\nport=%s\npath=%s\n%s",
		bash, host, port, path+a.machineSecret(p), localToolScript)
	if err := writeExecutable(filepath.Join(dir, name), script); err != nil {
		return fmt.Errorf("aadpooltest: install the %s stand-in: %w", name, err)
	}
	return nil
}

// writeExecutable writes a file that can be run at once. While another goroutine starts a process, that process may
// hold the file open for writing, and running it then fails with "text file busy": https://go.dev/issue/22315.
func writeExecutable(name, content string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	// A program of that name may be about to be run: it is replaced, not written to.
	if err := os.WriteFile(name+".new", []byte(content), 0o700); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// handleTools adds what the stand-ins ask.
func (a *Authority) handleTools(mux *http.ServeMux) {
	mux.HandleFunc("GET "+azureCLIPath+"{secret}", a.tokenEndpoint(a.azureCLI))
	mux.HandleFunc("GET "+azureDeveloperCLIPath+"{secret}", a.tokenEndpoint(a.azureDeveloperCLI))
	mux.HandleFunc("GET "+azurePowerShellPath+"{secret}", a.tokenEndpoint(a.azurePowerShell))
	mux.HandleFunc("GET "+browserPath+"{secret}", a.browse)
}

// toolArguments are those that the stand-in was run with.
func toolArguments(r *http.Request) []string { return r.Header.Values("Argument") }

// toolError is what the stand-in prints to standard error before it fails.
func toolError(format string, arguments ...any) answer {
	return answer{
		status:      http.StatusBadRequest,
		contentType: "text/plain; charset=utf-8",
		body:        []byte("ERROR: " + fmt.Sprintf(format, arguments...)),
	}
}

// options reads a command line of "--name value" and "--name=value". known says for each name whether it counts: one
// that does not is read and left.
func options(arguments []string, known map[string]bool) (values map[string]string, unknown string) {
	values = map[string]string{}
	for len(arguments) > 0 {
		name, value, inOne := strings.Cut(arguments[0], "=")
		arguments = arguments[1:]
		counts, ok := known[name]
		if !ok {
			return nil, name
		}
		if !inOne && len(arguments) > 0 {
			value, arguments = arguments[0], arguments[1:]
		}
		if counts {
			values[name] = value
		}
	}
	return values, ""
}

// azureCLI answers the stand-in with what az prints. Errors are the text that az writes to standard error.
func (a *Authority) azureCLI(r *http.Request) answer {
	arguments := toolArguments(r)
	if len(arguments) < 2 || !slices.Equal(arguments[:2], []string{"account", "get-access-token"}) {
		return toolError("this stand-in for az knows 'az account get-access-token' only")
	}
	given, unknown := options(arguments[2:], map[string]bool{"--resource": true, "--scope": true, "--tenant": true,
		"-t": true, "--output": false, "-o": false, "--subscription": false, "-s": false})
	if unknown != "" {
		return toolError("unrecognized argument: %s", unknown)
	}
	resource := given["--resource"]
	if scope := given["--scope"]; scope != "" {
		resource, _ = resourceOfScope(scope)
	}
	if resource == "" {
		resource = azureCLIDefaultResource
	}
	token, refused := a.toolToken(r, "Please run 'az login' to setup account.", given["--tenant"]+given["-t"], resource)
	if refused != nil {
		return *refused
	}
	expiresAt := token.request.expiresAt()
	return jsonAnswer(http.StatusOK, map[string]any{
		"accessToken":  token.token,
		"expiresOn":    expiresAt.Local().Format("2006-01-02 15:04:05.000000"),
		"expires_on":   expiresAt.Unix(),
		"subscription": a.subscriptionID,
		"tenant":       a.tenantID,
		"tokenType":    "Bearer",
	})
}

// azureDeveloperCLI answers with what azd prints:
// https://learn.microsoft.com/azure/developer/azure-developer-cli/reference#azd-auth-token
func (a *Authority) azureDeveloperCLI(r *http.Request) answer {
	arguments := slices.DeleteFunc(toolArguments(r), func(s string) bool { return s == "--no-prompt" })
	if len(arguments) < 2 || !slices.Equal(arguments[:2], []string{"auth", "token"}) {
		return toolError("this stand-in for azd knows 'azd auth token' only")
	}
	given, unknown := options(arguments[2:],
		map[string]bool{"--scope": true, "--tenant-id": true, "--output": false, "-o": false})
	if unknown != "" {
		return toolError("unknown flag: %s", unknown)
	}
	resource, ok := resourceOfScope(given["--scope"])
	if !ok {
		return toolError("the scope %q does not end in /.default", given["--scope"])
	}
	token, refused := a.toolToken(r, "not logged in, run `azd auth login` to login", given["--tenant-id"], resource)
	if refused != nil {
		return *refused
	}
	return jsonAnswer(http.StatusOK, map[string]string{
		"token": token.token, "expiresOn": token.request.expiresAt().UTC().Format(time.RFC3339),
	})
}

// What azidentity's script for PowerShell sets before it calls Get-AzAccessToken.
var (
	powerShellResource = regexp.MustCompile(`ResourceUrl\s*=\s*'([^']*)'`)
	powerShellTenant   = regexp.MustCompile(`\$tenantId\s*=\s*'([^']*)'`)
)

// azurePowerShell answers a script of azidentity's:
// https://learn.microsoft.com/powershell/module/az.accounts/get-azaccesstoken
func (a *Authority) azurePowerShell(r *http.Request) answer {
	arguments := toolArguments(r)
	script := ""
	if i := slices.Index(arguments, "-EncodedCommand"); i >= 0 && i+1 < len(arguments) {
		script = decodeUTF16(arguments[i+1])
	}
	resource := powerShellResource.FindStringSubmatch(script)
	if resource == nil || !strings.Contains(script, "Get-AzAccessToken") {
		return toolError("this stand-in for pwsh runs azidentity's Get-AzAccessToken only")
	}
	tenant := ""
	if found := powerShellTenant.FindStringSubmatch(script); found != nil {
		tenant = found[1]
	}
	token, refused := a.toolToken(r, "Run Connect-AzAccount to login.", tenant, resource[1])
	if refused != nil {
		return *refused
	}
	return jsonAnswer(http.StatusOK, map[string]any{
		"Token": token.token, "ExpiresOn": token.request.expiresAt().Unix(),
	})
}

// decodeUTF16 reads what -EncodedCommand takes; "" for anything else.
func decodeUTF16(encoded string) string {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	units := make([]uint16, 0, len(data)/2)
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, binary.LittleEndian.Uint16(data))
	}
	return string(utf16.Decode(units))
}

// toolToken is a token of the user who is signed in to the tool. Where there is none, nobody is, or the tool says why.
func (a *Authority) toolToken(r *http.Request, nobody, tenant, resource string) (issued, *answer) {
	p, ok := a.principalByMachineSecret(r.PathValue("secret"))
	if !ok {
		refusal := toolError("%s", nobody)
		return issued{}, &refusal
	}
	if tenant != "" && !strings.EqualFold(tenant, a.tenantID) {
		refusal := toolError("%s", errTenantNotFound(tenant))
		return issued{}, &refusal
	}
	token, refused := a.issue(p, resource)
	if refused != nil {
		refusal := toolError("%s", refused)
		return issued{}, &refusal
	}
	return token, nil
}
