<?php
// Verifies webhooks of pg_webhook (Standard Webhooks v1 and v1a). PHP 8.0 or newer, nothing but what comes with it.

const TOLERANCE_SECONDS = 300;

// $secret: whsec_…, or the public key, whpk_…; $headers: names in lower case; $body: the bytes as they came.
function verify(string $secret, array $headers, string $body): bool
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if ($id === '' || !preg_match('/^[0-9]{1,12}$/D', $timestamp)) {
        return false;
    }
    if (abs(time() - (int) $timestamp) > TOLERANCE_SECONDS) {
        return false;
    }
    $signed = "$id.$timestamp.$body";
    [$kind, $text] = explode('_', $secret, 2);
    $key = base64_decode($text);
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', $signed, $key, true));
    // One for each secret in force while it is being replaced: one that fits is enough.
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $signature) {
        if ($kind === 'whsec' && hash_equals($expected, $signature)) {
            return true;
        }
        if ($kind === 'whpk' && str_starts_with($signature, 'v1a,')) {
            $bytes = base64_decode(substr($signature, 4));
            if (strlen($bytes) === SODIUM_CRYPTO_SIGN_BYTES && sodium_crypto_sign_verify_detached($bytes, $signed, $key)) {
                return true;
            }
        }
    }
    return false;
}

// As a page of a web server, or as a CGI program. In Laravel: $request->header(…) and $request->getContent().
$headers = [];
foreach ($_SERVER as $name => $value) {
    if (str_starts_with($name, 'HTTP_')) {
        $headers[strtolower(strtr(substr($name, 5), '_', '-'))] = $value;
    }
}
$body = file_get_contents(PHP_SAPI === 'cli' ? 'php://stdin' : 'php://input');
// If it is genuine: put the event aside under its webhook-id, unless it is there already. Work on it after the answer.
$status = verify(getenv('WEBHOOK_SECRET'), $headers, $body) ? 204 : 401;
if (PHP_SAPI === 'cli') {
    echo "Status: $status\n\n";
}
http_response_code($status);
