"""Interception between real network namespaces; needs root, iproute2, nftables and iptables."""
