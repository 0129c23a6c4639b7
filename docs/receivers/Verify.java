// Verifies webhooks of pg_webhook (Standard Webhooks v1 and v1a). Java 17 or newer, nothing but its library.
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.Instant;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Verify {
    private static final long TOLERANCE_SECONDS = 300;

    /** secret: whsec_…, or the public key, whpk_…; headers: names in lower case; body: the bytes as they came. */
    static boolean verify(String secret, Map<String, String> headers, byte[] body)
            throws GeneralSecurityException, IOException {
        String id = headers.getOrDefault("webhook-id", "");
        String timestamp = headers.getOrDefault("webhook-timestamp", "");
        if (id.isEmpty() || !timestamp.matches("[0-9]{1,12}")) {
            return false;
        }
        if (Math.abs(Instant.now().getEpochSecond() - Long.parseLong(timestamp)) > TOLERANCE_SECONDS) {
            return false;
        }
        ByteArrayOutputStream signed = new ByteArrayOutputStream();
        signed.write((id + "." + timestamp + ".").getBytes(StandardCharsets.UTF_8));
        signed.write(body);
        byte[] key = Base64.getDecoder().decode(secret.substring(secret.indexOf('_') + 1));
        // One for each secret in force while it is being replaced: one that fits is enough.
        for (String signature : headers.getOrDefault("webhook-signature", "").split(" ")) {
            boolean fits = secret.startsWith("whpk_")
                    ? isSignedBy(key, signed.toByteArray(), signature)
                    : isSignedWith(key, signed.toByteArray(), signature);
            if (fits) {
                return true;
            }
        }
        return false;
    }

    private static boolean isSignedWith(byte[] key, byte[] signed, String signature) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        String expected = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(signed));
        return MessageDigest.isEqual(
                expected.getBytes(StandardCharsets.UTF_8), signature.getBytes(StandardCharsets.UTF_8));
    }

    private static boolean isSignedBy(byte[] key, byte[] signed, String signature) throws GeneralSecurityException {
        if (!signature.startsWith("v1a,")) {
            return false;
        }
        byte[] spki = HexFormat.of().parseHex("302a300506032b6570032100" + HexFormat.of().formatHex(key));
        PublicKey publicKey = KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki));
        Signature verifier = Signature.getInstance("Ed25519");
        verifier.initVerify(publicKey);
        verifier.update(signed);
        try {
            return verifier.verify(Base64.getDecoder().decode(signature.substring(4)));
        } catch (GeneralSecurityException | IllegalArgumentException malformed) {
            return false;
        }
    }

    /** As a CGI program. In Spring: @RequestHeader Map headers, and @RequestBody byte[] body. */
    public static void main(String[] arguments) throws Exception {
        Map<String, String> headers = new TreeMap<>();
        System.getenv().forEach((name, value) -> {
            if (name.startsWith("HTTP_")) {
                headers.put(name.substring(5).replace('_', '-').toLowerCase(Locale.ROOT), value);
            }
        });
        // If it is genuine: put the event aside under its webhook-id, unless it is there already. Work on it after the answer.
        boolean isGenuine = verify(System.getenv("WEBHOOK_SECRET"), headers, System.in.readAllBytes());
        System.out.println(isGenuine ? "Status: 204 No Content\n" : "Status: 401 Unauthorized\n");
    }
}
