/*
 * A validator of OAuth tokens for PostgreSQL 18, for tests: it asks the process that listens on the Unix socket
 * validator.sock in the data directory. It sends the token and a newline; the answer is the name of the principal that the
 * token is for, or nothing if the token is not good. PostgreSQL then compares the name with the role asked for.
 *
 * https://www.postgresql.org/docs/18/oauth-validators.html
 */
#include "postgres.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fmgr.h"

/* The connection's own struct, which nothing here looks into, would ask for the headers of Kerberos and OpenSSL. */
#undef ENABLE_GSS
#undef USE_OPENSSL
#include "libpq/oauth.h"

PG_MODULE_MAGIC;

#define SOCKET_NAME "validator.sock" /* below the current directory of a backend, which is the data directory */

static bool
send_all(int fd, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

		if (sent <= 0)
			return false;
		data += sent;
		length -= sent;
	}
	return true;
}

/* ask returns false if there is no answer at all. */
static bool
ask(const char *token, char *name, size_t size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_NAME};
	size_t		length = 0;
	ssize_t		got;
	int			fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (fd < 0)
		return false;
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		!send_all(fd, token, strlen(token)) || !send_all(fd, "\n", 1))
	{
		close(fd);
		return false;
	}
	while (length < size - 1 && (got = read(fd, name + length, size - 1 - length)) > 0)
		length += got;
	name[length] = '\0';
	close(fd);
	return true;
}

static bool
validate(const ValidatorModuleState *state, const char *token, const char *role, ValidatorModuleResult *result)
{
	char		name[256];

	if (!ask(token, name, sizeof(name)))
		return false;			/* an internal error: PostgreSQL refuses the login */
	result->authorized = name[0] != '\0';
	if (result->authorized)
		result->authn_id = pstrdup(name);
	return true;
}

static const OAuthValidatorCallbacks callbacks = {
	.magic = PG_OAUTH_VALIDATOR_MAGIC,
	.validate_cb = validate,
};

const OAuthValidatorCallbacks *
_PG_oauth_validator_module_init(void)
{
	return &callbacks;
}
