import type { Authentication } from './authentication';

/**
 * The single sign-on endpoint. Every failure is HTTP 400, never 401 (reference §1.2).
 */
export interface SsoAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, string>>;
}

const NEVER_EXPIRES = '9223372036854775807';
const API_SCOPE = 'ovirt-app-api';

export interface SsoRequest {
  readonly method: string;
  readonly accept: string | undefined;
  readonly form: URLSearchParams;
}

/** `POST /ovirt-engine/sso/oauth/token`. */
export function issueToken(request: SsoRequest, authentication: Authentication): SsoAnswer {
  const { form } = request;
  const scope = form.get('scope') ?? '';
  const refuse = (code: string, text: string): SsoAnswer => ({
    status: 400,
    body: scope.split(' ').includes(API_SCOPE) ? { error_code: code, error: text } : { error: code, error_description: text },
  });
  // Anything but exactly this value is refused, also lists that contain it.
  if (request.accept !== 'application/json') {
    return refuse('invalid_request', 'Accept header is missing or not application/json');
  }
  const grant = form.get('grant_type');
  if (grant === null) {
    return refuse('invalid_request', 'The parameter grant_type is missing');
  }
  if (grant !== 'password') {
    return refuse('unsupported_grant_type', `The grant type ${grant} is not supported`);
  }
  if (scope === '') {
    return refuse('invalid_scope', 'The parameter scope is missing');
  }
  const userName = form.get('username');
  const password = form.get('password');
  if (userName === null || password === null) {
    return refuse('invalid_request', `The parameter ${userName === null ? 'username' : 'password'} is missing`);
  }
  if (!userName.includes('@')) {
    return refuse('access_denied', 'Cannot authenticate user: the name carries no profile, as in admin@internal');
  }
  const user = authentication.verify(userName, password);
  if (!user) {
    return refuse('access_denied', `Cannot authenticate user ${userName}: the user name or password is incorrect`);
  }
  if (!scope.split(' ').includes(API_SCOPE)) {
    return refuse('invalid_scope', `The scope ${scope} is not known`);
  }
  return {
    status: 200,
    body: { access_token: authentication.open(user).id, scope, exp: NEVER_EXPIRES, token_type: 'bearer' },
  };
}

/** `POST /ovirt-engine/services/sso-logout`; unknown tokens are fine. */
export function revokeToken(form: URLSearchParams, authentication: Authentication): SsoAnswer {
  authentication.close(form.get('token') ?? '');
  return { status: 200, body: {} };
}
