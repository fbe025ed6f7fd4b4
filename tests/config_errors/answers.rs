//! The errors of what the box itself answers, `[inband]`, `[decoy]` and rules with a decoy, each with `⟦` before its place, a
//! part of the message and a part of the help.

/// Whole configs.
pub const CONFIGS: &[(&str, &str, &str)] = &[
    // [inband]: the address.
    (
        "⟦[inband]\nallow = \"10.77.0.0/28\"\n",
        "[inband] has no `address`",
        "add `address = \"10.77.0.2/24\"`",
    ),
    (
        "[inband]\naddress = ⟦[]\nallow = \"10.77.0.0/28\"\n",
        "`address` is an empty list",
        "or take [inband] out",
    ),
    (
        "[inband]\naddress = ⟦7\nallow = \"10.77.0.0/28\"\n",
        "`address` must be a string in quotes",
        "a string",
    ),
    (
        "[inband]\naddress = [\"10.77.0.2/24\", ⟦7]\nallow = \"10.77.0.0/28\"\n",
        "`address` must be a string in quotes",
        "a string",
    ),
    (
        "[inband]\naddress = ⟦\"10.77.0.2\"\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.2\" has no prefix length",
        "\"10.77.0.2/24\"",
    ),
    (
        "[inband]\naddress = ⟦\"fd77::2\"\nallow = \"10.77.0.0/28\"\n",
        "\"fd77::2\" has no prefix length",
        "\"fd77::2/64\"",
    ),
    (
        "[inband]\naddress = ⟦\"10.77.0.2/33\"\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.2/33\" is not an address with a prefix length",
        "such as \"10.77.0.2/24\"",
    ),
    (
        "[inband]\naddress = ⟦\"box.example.net\"\nallow = \"10.77.0.0/28\"\n",
        "is not an address with a prefix length",
        "such as \"10.77.0.2/24\"",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"10.77.0.0/24\"]\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.0/24\" is the address of the network itself: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"10.77.0.255/24\"]\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.255/24\" is the broadcast address of its network: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"10.77.0.4/30\"]\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.4/30\" is the address of the network itself: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"fd77::/64\"]\nallow = \"10.77.0.0/28\"\n",
        "\"fd77::/64\" is the anycast address of routers: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"127.0.0.1/8\"]\nallow = \"10.77.0.0/28\"\n",
        "\"127.0.0.1/8\" is a loopback address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"::1/128\"]\nallow = \"10.77.0.0/28\"\n",
        "\"::1/128\" is a loopback address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"0.0.0.0/0\"]\nallow = \"10.77.0.0/28\"\n",
        "\"0.0.0.0/0\" is the unspecified address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"::/64\"]\nallow = \"10.77.0.0/28\"\n",
        "\"::/64\" is the unspecified address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"224.0.0.9/24\"]\nallow = \"10.77.0.0/28\"\n",
        "\"224.0.0.9/24\" is a multicast address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"ff02::9/64\"]\nallow = \"10.77.0.0/28\"\n",
        "\"ff02::9/64\" is a multicast address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"255.255.255.255/32\"]\nallow = \"10.77.0.0/28\"\n",
        "\"255.255.255.255/32\" is the broadcast address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"240.0.0.9/24\"]\nallow = \"10.77.0.0/28\"\n",
        "\"240.0.0.9/24\" is a reserved address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"0.1.2.3/8\"]\nallow = \"10.77.0.0/28\"\n",
        "\"0.1.2.3/8\" is a reserved address: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"10.78.0.2/24\", ⟦\"::ffff:10.77.0.2/120\"]\nallow = \"10.77.0.0/28\"\n",
        "\"::ffff:10.77.0.2/120\" is an IPv4 address in the form of IPv6: the box cannot have it",
        "a free address of one machine",
    ),
    (
        "[inband]\naddress = [\"fd77::2/64\", ⟦\"fe80::2/64\"]\nallow = \"10.77.0.0/28\"\n",
        "\"fe80::2/64\" is a link-local address",
        "has a link-local address by itself",
    ),
    (
        "[inband]\naddress = ⟦\"10.77.0.2/0\"\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.2/0\" has the prefix length 0",
        "the length of the LAN's prefix",
    ),
    (
        "[inband]\naddress = [\"10.77.0.2/24\", ⟦\"10.77.0.2/16\"]\nallow = \"10.77.0.0/28\"\n",
        "`address` has 10.77.0.2 twice",
        "take one of them out",
    ),
    (
        "[inband]\naddress = [\"10.77.0.2/24\", \"10.77.0.3/24\", \"10.77.0.4/24\", \"fd77::2/64\", ⟦\"fd77::3/64\"]\nallow = \"10.77.0.0/28\"\n",
        "`address` has more than 4 addresses",
        "leave 4 of them",
    ),
    // [inband]: the gateway.
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦[]\nallow = \"10.77.0.0/28\"\n",
        "`gateway` is an empty list",
        "leave `gateway` out",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦1\nallow = \"10.77.0.0/28\"\n",
        "`gateway` must be a string in quotes",
        "a string",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦\"10.77.0.1/24\"\nallow = \"10.77.0.0/28\"\n",
        "\"10.77.0.1/24\" is not an address",
        "the address of a router",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = [\"10.77.0.1\", ⟦\"fe80::1\"]\nallow = \"10.77.0.0/28\"\n",
        "the gateway fe80::1 is of IPv6, and `address` has none",
        "add an IPv6 address to `address`",
    ),
    (
        "[inband]\naddress = \"fd77::2/64\"\ngateway = ⟦\"10.77.0.1\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway 10.77.0.1 is of IPv4, and `address` has none",
        "take this gateway out",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦\"10.77.0.2\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway 10.77.0.2 is an address of the box itself",
        "the router that is the way",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦\"10.78.0.1\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway 10.78.0.1 is in no prefix of `address`",
        "in one of the prefixes of `address`",
    ),
    (
        "[inband]\naddress = \"fd77::2/64\"\ngateway = ⟦\"fd78::1\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway fd78::1 is in no prefix of `address`",
        "or in fe80::/10",
    ),
    (
        "[inband]\naddress = \"fd77::2/64\"\ngateway = ⟦\"ff02::2\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway ff02::2 is in no prefix of `address`",
        "or in fe80::/10",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦\"10.77.0.255\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway 10.77.0.255 is the broadcast address of its network",
        "the address of a router",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = ⟦\"10.77.0.0\"\nallow = \"10.77.0.0/28\"\n",
        "the gateway 10.77.0.0 is the address of the network itself",
        "the address of a router",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = [\"10.77.0.1\", ⟦\"10.77.0.3\"]\nallow = \"10.77.0.0/28\"\n",
        "`gateway` has two addresses of IPv4",
        "leave one for IPv4",
    ),
    (
        "[inband]\naddress = ⟦\"10.77.0.0/24\"\ngateway = \"fe80::1\"\nallow = \"fd77::/64\"\n",
        "the address of the network itself",
        "a free address",
    ),
    // [inband]: who gets an answer.
    (
        "⟦[inband]\naddress = \"10.77.0.2/24\"\n",
        "[inband] has no `allow`",
        "the prefixes of the administrators' machines",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = ⟦[]\n",
        "`allow` is an empty list",
        "the prefixes of the administrators' machines",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = [⟦true]\n",
        "`allow` must be a string in quotes",
        "a string",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = [\"10.77.0.9\", ⟦\"10.77.0.9/24\"]\n",
        "has bits set below its prefix length",
        "did you mean \"10.77.0.0/24\"",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = ⟦\"10.77.0.1-10.77.0.9\"\n",
        "is not an address",
        "ranges and sets are not taken here",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = ⟦\"@admins\"\n",
        "\"@admins\" is not an address",
        "ranges and sets are not taken here",
    ),
    // [inband]: the rest.
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nside = ⟦\"wan\"\n",
        "`side` cannot be \"wan\"",
        "\"lan\", \"uplink\", \"both\"",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nvlan = ⟦0\n",
        "`vlan` must be a number from 1 to 4094",
        "1 to 4094",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nvlan = ⟦4095\n",
        "`vlan` must be a number from 1 to 4094",
        "1 to 4094",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nmac = ⟦\"02:00\"\n",
        "\"02:00\" is not a MAC address",
        "six bytes in hex",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nmac = ⟦\"00:00:00:00:00:00\"\n",
        "`mac` cannot be all zero",
        "leave `mac` out",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nmac = ⟦\"01:00:5E:00:00:01\"\n",
        "`mac` cannot be \"01:00:5E:00:00:01\"",
        "its first byte is even, as in \"02:00:5E:00:00:01\"",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nmac = ⟦\"ff:ff:ff:ff:ff:ff\"\n",
        "`mac` cannot be \"ff:ff:ff:ff:ff:ff\"",
        "as in \"fe:ff",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nport = ⟦0\n",
        "`port` must be a number from 1 to 65535",
        "1 to 65535",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nport = ⟦65536\n",
        "`port` must be a number from 1 to 65535",
        "1 to 65535",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nrate = ⟦9\n",
        "`rate` must be a number from 10 to 1000000",
        "10 to 1000000",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\nrate = ⟦1_000_001\n",
        "`rate` must be a number from 10 to 1000000",
        "10 to 1000000",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\n⟦gatway = \"10.77.0.1\"\n",
        "unknown key `gatway` in [inband]",
        "did you mean `gateway`?",
    ),
    (
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\n⟦colour = 1\n",
        "unknown key `colour` in [inband]",
        "address, gateway, allow, side, mac, vlan, port, rate",
    ),
    (
        "inband = ⟦\"10.77.0.2/24\"\n",
        "`[inband]` must be a table",
        "write a table",
    ),
    // [decoy].
    (
        "[decoy]\nat_most = ⟦0\n",
        "`at_most` must be a number from 1 to 1024",
        "1 to 1024",
    ),
    (
        "[decoy]\nat_most = ⟦1025\n",
        "`at_most` must be a number from 1 to 1024",
        "1 to 1024",
    ),
    (
        "[decoy]\nfor_a_host = ⟦0\n",
        "`for_a_host` must be a number from 1 to 1024",
        "1 to 1024",
    ),
    (
        "[decoy]\nfor_a_host = ⟦65\n",
        "`for_a_host` is greater than `at_most`, 64",
        "a number from 1 to 64, or a greater `at_most`",
    ),
    (
        "[decoy]\nfor_a_host = ⟦9\nat_most = 8\n",
        "`for_a_host` is greater than `at_most`, 8",
        "a number from 1 to 8",
    ),
    (
        "[decoy]\nfor_a_host = 65\nat_most = ⟦\"all\"\n",
        "`at_most` must be a number",
        "1 to 1024",
    ),
    (
        "[decoy]\ndeadline = ⟦\"999ms\"\n",
        "`deadline` cannot be 999ms",
        "\"1s\" to \"10m\"",
    ),
    (
        "[decoy]\ndeadline = ⟦\"601s\"\n",
        "`deadline` cannot be 10m 1s",
        "\"1s\" to \"10m\"",
    ),
    (
        "[decoy]\ndeadline = ⟦60\n",
        "`deadline` must be a string in quotes",
        "a string",
    ),
    (
        "[decoy]\nsilence = ⟦\"999ms\"\n",
        "`silence` cannot be 999ms",
        "from \"1s\" to `deadline`, 1m",
    ),
    (
        "[decoy]\nsilence = ⟦\"31s\"\ndeadline = \"30s\"\n",
        "`silence` cannot be 31s",
        "from \"1s\" to `deadline`, 30s",
    ),
    (
        "[decoy]\nsilence = \"90s\"\ndeadline = ⟦\"11m\"\n",
        "`deadline` cannot be 11m",
        "\"1s\" to \"10m\"",
    ),
    (
        "[decoy]\nrecord = ⟦\"255B\"\n",
        "`record` cannot be \"255B\"",
        "write 256B to 1MiB",
    ),
    (
        "[decoy]\nrecord = ⟦\"2MiB\"\n",
        "`record` cannot be \"2MiB\"",
        "write 256B to 1MiB",
    ),
    (
        "[decoy]\nrecord = ⟦\"16K\"\n",
        "`record` cannot be \"16K\"",
        "a whole number and a unit",
    ),
    (
        "[decoy]\nrecord = ⟦16384\n",
        "`record` must be a string in quotes",
        "a string",
    ),
    (
        "[decoy]\nrate = ⟦9\n",
        "`rate` must be a number from 10 to 1000000",
        "10 to 1000000",
    ),
    (
        "[decoy]\nrate = ⟦1_000_001\n",
        "`rate` must be a number from 10 to 1000000",
        "10 to 1000000",
    ),
    (
        "[decoy]\nname = ⟦\"\"\n",
        "\"\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"a_b\"\n",
        "\"a_b\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"a b\"\n",
        "\"a b\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\".example\"\n",
        "\".example\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"example.\"\n",
        "\"example.\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"a..b\"\n",
        "\"a..b\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"-a.b\"\n",
        "\"-a.b\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"a-.b\"\n",
        "\"a-.b\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦\"mäil.example\"\n",
        "\"mäil.example\" is not a host name",
        "letters, digits, `-` and `.`",
    ),
    (
        "[decoy]\nname = ⟦7\n",
        "`name` must be a string in quotes",
        "a string",
    ),
    (
        "[decoy]\n⟦names = \"a\"\n",
        "unknown key `names` in [decoy]",
        "did you mean `name`?",
    ),
    (
        "[decoy]\n⟦colour = 1\n",
        "unknown key `colour`",
        "the keys of [decoy] are: at_most, for_a_host, deadline, silence, record, rate, name",
    ),
    // A rule with a decoy.
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nproto = \"tcp\"\ndecoy = ⟦\"raw\"\n",
        "`decoy` says what a decoy speaks, and the rule has none",
        "write `action = \"decoy\"` beside it",
    ),
    (
        "[[rule]]\nname = \"irc\"\ndecoy = ⟦\"irc\"\n",
        "`decoy` says what a decoy speaks, and the rule has none",
        "write `action = \"decoy\"` beside it",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"decoy\"\nproto = \"tcp\"\ndecoy = ⟦\"icr\"\n",
        "`decoy` cannot be \"icr\"",
        "did you mean \"irc\"?",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"decoy\"\nproto = \"tcp\"\ndecoy = ⟦\"ssh\"\n",
        "`decoy` cannot be \"ssh\"",
        "it may be \"port\", \"irc\", \"smtp\", \"http\", \"tftp\", \"raw\"",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"decoy\"\nproto = \"tcp\"\ndecoy = ⟦true\n",
        "`decoy` must be one of \"port\", \"irc\"",
        "write one of",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\n",
        "the rule `a` cannot answer by a decoy",
        "add `proto = \"tcp\"`, `\"udp\"`, or both",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"decoy\"\nproto = [\"tcp\", \"sctp\"]\ndecoy = ⟦\"raw\"\n",
        "the rule `a` cannot answer by a decoy",
        "add `proto = \"tcp\"`, `\"udp\"`, or both",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nethertype = \"arp\"\n",
        "the rule `a` cannot answer by a decoy",
        "nothing else is answered",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"tcp\"\ndirection = \"in\"\n",
        "the rule `a` cannot answer by a decoy",
        "leave `direction` out: a decoy answers hosts of the LAN",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"tcp\"\ndirection = \"both\"\n",
        "the rule `a` cannot answer by a decoy",
        "leave `direction` out: a decoy answers hosts of the LAN",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"tcp\"\ntcp_flags = \"syn\"\n",
        "the rule `a` cannot answer by a decoy",
        "take `tcp_flags` and `fragment` out",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"udp\"\nfragment = false\n",
        "the rule `a` cannot answer by a decoy",
        "take `tcp_flags` and `fragment` out",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"tcp\"\napp = \"ssh\"\n",
        "the rule `a` cannot answer by a decoy",
        "add a clause by ports, or use \"drop\"",
    ),
    (
        "[[rule]]\nname = \"snmp\"\naction = ⟦\"decoy\"\nproto = \"tcp\"\napp = \"snmp\"\n",
        "the rule `snmp` cannot answer by a decoy",
        "add a clause by ports, or use \"drop\"",
    ),
    (
        "[[rule]]\nname = \"bogon-destination\"\naction = ⟦\"decoy\"\n",
        "the rule `bogon-destination` cannot answer by a decoy",
        "add `proto = \"tcp\"`, `\"udp\"`, or both",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"decoy\"\nproto = \"tcp\"\nlimit = ⟦\"10/s\"\n",
        "the rule `a` answers by a decoy, and a limit on frames would cut its conversations short",
        "[decoy] (at_most, for_a_host, rate)",
    ),
    (
        "[[rule]]\nname = \"tftp\"\naction = \"decoy\"\ndecoy = ⟦\"tftp\"\n",
        "the rule `tftp` cannot answer by a decoy",
        "write `dport` instead of `app`",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"decoy\"\nproto = \"udp\"\napp = \"tftp\"\n",
        "the rule `a` cannot answer by a decoy",
        "the blocks go to the real destination",
    ),
];
