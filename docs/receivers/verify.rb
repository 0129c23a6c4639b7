# Verifies webhooks of pg_webhook (Standard Webhooks v1 and v1a). Ruby 3.0 or newer, nothing but its library.
require "openssl"

TOLERANCE_SECONDS = 300

# secret: whsec_…, or the public key, whpk_…; headers: names in lower case; body: the bytes as they came.
def verify(secret, headers, body)
  id = headers["webhook-id"].to_s
  timestamp = headers["webhook-timestamp"].to_s
  return false if id.empty? || !timestamp.match?(/\A[0-9]{1,12}\z/)
  return false if (Time.now.to_i - timestamp.to_i).abs > TOLERANCE_SECONDS

  signed = "#{id}.#{timestamp}.".b + body.b
  kind, text = secret.split("_", 2)
  key = text.unpack1("m0")
  # One for each secret in force while it is being replaced: one that fits is enough.
  signatures = headers["webhook-signature"].to_s.b.split(" ")
  if kind == "whpk"
    public_key = OpenSSL::PKey.read(["302a300506032b6570032100"].pack("H*") + key)
    signatures.any? do |signature|
      signature.start_with?("v1a,") && public_key.verify(nil, signature.delete_prefix("v1a,").unpack1("m"), signed)
    rescue OpenSSL::PKey::PKeyError
      false
    end
  else
    expected = "v1," + [OpenSSL::HMAC.digest("SHA256", key, signed)].pack("m0")
    signatures.any? { |signature| OpenSSL.secure_compare(signature, expected) }
  end
end

if __FILE__ == $PROGRAM_NAME
  # As a CGI program. In Rails: request.headers["webhook-id"] and so on, and request.raw_post.
  headers = ENV.select { |name, _| name.start_with?("HTTP_") }
               .transform_keys { |name| name.delete_prefix("HTTP_").tr("_", "-").downcase }
  if verify(ENV.fetch("WEBHOOK_SECRET"), headers, $stdin.binmode.read)
    # Here: put the event aside under its webhook-id, unless it is there already. Work on it after the answer.
    puts "Status: 204 No Content", ""
  else
    puts "Status: 401 Unauthorized", ""
  end
end
